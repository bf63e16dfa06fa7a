// Compiles `src/` and copies `play/` into `dist/`, which is committed: nodes embed it, and nobody
// needs npm to use it. `--check` compares instead, and says what differs.
import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL(".", import.meta.url));
const tsc = join(here, "node_modules/typescript/bin/tsc");

function build(out) {
  execFileSync(process.execPath, [tsc, "-p", here, "--outDir", out], { stdio: "inherit" });
  cpSync(join(here, "play"), out, { recursive: true });
}

function files(folder) {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name).slice(folder.length + 1))
    .sort();
}

function check() {
  const made = mkdtempSync(join(tmpdir(), "rekindle-dist-"));
  const dist = join(here, "dist");
  try {
    build(made);
    const text = (folder, name) => {
      const path = join(folder, name);
      return existsSync(path) ? readFileSync(path, "utf8") : undefined;
    };
    const names = new Set([...files(made), ...files(dist)]);
    return [...names].filter((name) => text(made, name) !== text(dist, name));
  } finally {
    rmSync(made, { recursive: true });
  }
}

if (!existsSync(tsc)) {
  console.error("SKIPPED: the TypeScript compiler is missing: run `npm ci` in clients/typescript");
  process.exit(process.argv.includes("--check") ? 0 : 1);
}
if (process.argv.includes("--check")) {
  const differing = check();
  for (const name of differing) console.error(`dist/${name} is not what src and play make`);
  if (differing.length > 0) console.error("run `npm run build` in clients/typescript");
  process.exit(differing.length > 0 ? 1 : 0);
}
rmSync(join(here, "dist"), { recursive: true, force: true });
build(join(here, "dist"));
