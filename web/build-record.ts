/**
 * The record of a build: hashes of what it was made from and of what came out.
 *
 * `tests/serving/test_page_build.py` computes both again in Python; keep the two in step.
 */
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** Folders and files of web/ that decide what the build contains. */
const SOURCES = [
  "build-record.ts",
  "index.html",
  "package-lock.json",
  "package.json",
  "public",
  "src",
  "tsconfig.json",
  "vite.config.ts",
];
const RECORD = "build.json";

/** Every file under `path`, itself if it is one, as paths relative to `root` with "/". */
function filesUnder(root: string, path: string): string[] {
  const full = join(root, path);
  if (statSync(full).isFile()) return [path];
  return readdirSync(full).flatMap((name) => filesUnder(root, path ? `${path}/${name}` : name));
}

/** SHA-256 over each file's path, length and bytes, in the order of the paths' code units. */
function digest(root: string, files: string[]): string {
  const hash = createHash("sha256");
  for (const file of [...files].sort()) {
    const bytes = readFileSync(join(root, file));
    hash.update(`${file}\0${bytes.length}\0`).update(bytes);
  }
  return hash.digest("hex");
}

export function writeRecord(web: string, out: string): void {
  const built = filesUnder(out, "").filter((file) => file !== RECORD);
  const record = {
    source: digest(web, SOURCES.flatMap((path) => filesUnder(web, path))),
    output: digest(out, built),
    bytes: built.reduce((sum, file) => sum + statSync(join(out, file)).size, 0),
  };
  writeFileSync(join(out, RECORD), `${JSON.stringify(record, null, 2)}\n`);
}
