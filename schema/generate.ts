/** `npm run generate`: writes the published files and the tables of protocol.md from the schemas. */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { renderAll } from "./render.ts"

const root = dirname(import.meta.dirname)
const page = readFileSync(join(root, "protocol.md"), "utf8")

for (const [path, text] of Object.entries(renderAll(page))) {
  mkdirSync(dirname(join(root, path)), { recursive: true })
  writeFileSync(join(root, path), text)
  console.log(path)
}
