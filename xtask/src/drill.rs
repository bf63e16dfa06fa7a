//! Failure drills that take longer than a test suite may: hundreds of kills under load, and power
//! cuts.
//!
//! Both run `rekindle demo`, whose bots judge the node by what went over the wire. A power cut is a
//! loop-mounted ext4 file system that is shut down without flushing, unmounted and mounted again
//! between the death of the node and its next start: what was not synced is gone.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::run;

/// Cuts the power of the file system at argv 1: `EXT4_IOC_SHUTDOWN` with
/// `EXT4_GOING_FLAGS_NOLOGFLUSH`.
const SHUTDOWN: &str = "import fcntl, os, struct, sys; fcntl.ioctl(os.open(sys.argv[1], \
    os.O_RDONLY), 0x8004587d, struct.pack('I', 2))";
/// Size of the file system that loses power.
const DISK_MIB: u64 = 2_048;

/// `kills` kills and `power_cuts` power cuts, at moments that `seed` decides. Each drill prints the
/// demo's line of figures.
pub(crate) fn drill(kills: u32, power_cuts: u32, seed: u64) -> Result<()> {
    if kills + power_cuts == 0 {
        bail!("nothing to do: give --kills or --power-cuts");
    }
    run(Command::new("cargo").args(["build", "--release", "--locked"]))?;
    let demo = |count: u32| {
        let mut command = Command::new("target/release/rekindle");
        command.args([
            "demo",
            "--json",
            "--kills",
            &count.to_string(),
            "--seed",
            &seed.to_string(),
        ]);
        command
    };
    if kills > 0 {
        run(&mut demo(kills))?;
    }
    if power_cuts > 0 {
        let disk = match Disk::mount() {
            Ok(disk) => disk,
            Err(error) => {
                println!(
                    "SKIPPED: power cuts need root, loop devices, mkfs.ext4 and python3: {error:#}"
                );
                return Ok(());
            }
        };
        run(demo(power_cuts)
            .arg("--data-dir")
            .arg(disk.mount.join("data"))
            .arg("--after-kill")
            .arg(disk.power_cut()))?;
    }
    Ok(())
}

/// A loop-mounted file system.
struct Disk {
    image: PathBuf,
    mount: PathBuf,
}

impl Disk {
    fn mount() -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("rekindle-drill-{}", std::process::id()));
        let disk = Self { image: folder.join("disk.img"), mount: folder.join("mnt") };
        std::fs::create_dir_all(&disk.mount)
            .with_context(|| format!("cannot create {}", disk.mount.display()))?;
        let image = std::fs::File::create(&disk.image).context("cannot create the image")?;
        image.set_len(DISK_MIB << 20).context("cannot size the image")?;
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&disk.image))?;
        run(Command::new("mount").args(["-o", "loop"]).arg(&disk.image).arg(&disk.mount))?;
        Ok(disk)
    }

    /// The shell command that cuts its power and brings it back.
    fn power_cut(&self) -> String {
        let (image, mount) = (quoted(&self.image), quoted(&self.mount));
        format!(
            "python3 -c \"{SHUTDOWN}\" {mount} && umount {mount} && mount -o loop {image} {mount}"
        )
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let unmounted = run(Command::new("umount").arg(&self.mount));
        if let Err(error) = unmounted.and_then(|()| {
            self.image.parent().map_or(Ok(()), |path| Ok(std::fs::remove_dir_all(path)?))
        }) {
            eprintln!("left behind: {}: {error:#}", self.image.display());
        }
    }
}

fn quoted(path: &Path) -> String {
    format!("'{}'", path.display())
}
