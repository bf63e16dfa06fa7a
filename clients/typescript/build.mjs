// Compiles `src/` and copies `play/` into `dist/`, which is committed: nodes embed it, and nobody
// needs npm to use it. `client.min.js` is the whole client as one file. `--check` compares instead,
// and says what differs.
import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const here = fileURLToPath(new URL(".", import.meta.url));
const tsc = join(here, "node_modules/typescript/bin/tsc");
const kept = join(here, "dist/client.min.js");
/** Most bytes of the client in one file, compressed. */
const MOST = 20 << 10;

async function build(out) {
  execFileSync(process.execPath, [tsc, "-p", here, "--outDir", out], { stdio: "inherit" });
  cpSync(join(here, "play"), out, { recursive: true });
  const outfile = join(out, "client.min.js");
  const esbuild = await import("esbuild").catch(() => undefined);
  if (!esbuild) {
    // Its executable is an optional part, for this system, that npm may leave out.
    console.error("SKIPPED: esbuild is missing: client.min.js stays as it is");
    cpSync(kept, outfile);
    return readFileSync(kept).length;
  }
  const common = { bundle: true, minify: true, format: "esm", target: "es2022" };
  esbuild.buildSync({ ...common, entryPoints: [join(out, "index.js")], outfile });
  const bytes = gzipSync(readFileSync(outfile), { level: 9 }).length;
  if (bytes > MOST) throw new Error(`client.min.js is ${bytes} bytes compressed, ${MOST} at most`);
  return bytes;
}

function files(folder) {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name).slice(folder.length + 1))
    .sort();
}

async function check() {
  const made = mkdtempSync(join(tmpdir(), "rekindle-dist-"));
  const dist = join(here, "dist");
  try {
    await build(made);
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
  const differing = await check();
  for (const name of differing) console.error(`dist/${name} is not what src and play make`);
  if (differing.length > 0) console.error("run `npm run build` in clients/typescript");
  process.exit(differing.length > 0 ? 1 : 0);
}
const made = mkdtempSync(join(tmpdir(), "rekindle-dist-"));
const bytes = await build(made);
rmSync(join(here, "dist"), { recursive: true, force: true });
cpSync(made, join(here, "dist"), { recursive: true });
rmSync(made, { recursive: true });
console.log(`client.min.js: ${bytes} bytes compressed`);
