/**
 * Formats all tracked and untracked files with dprint and the settings of dprint.json. With `--check` it only lists unformatted
 * files, and exits with 1 if there are any.
 *
 * The plugins run as WebAssembly in this process, because the `dprint` program needs a separate binary for each platform.
 */
import { createContext } from "@dprint/formatter"
import * as json from "@dprint/json"
import * as markdown from "@dprint/markdown"
import * as typescript from "@dprint/typescript"
import { execFileSync } from "node:child_process"
import { existsSync, readFileSync, writeFileSync } from "node:fs"

const { excludes, ...settings } = JSON.parse(readFileSync("dprint.json", "utf8")) as {
  readonly excludes: ReadonlyArray<string>
  readonly [plugin: string]: Record<string, unknown> | unknown
}
const { json: forJson, markdown: forMarkdown, typescript: forTypescript, ...common } = settings

const context = createContext(common)
context.addPlugin(readFileSync(typescript.getPath()), forTypescript as Record<string, unknown>)
context.addPlugin(readFileSync(json.getPath()), forJson as Record<string, unknown>)
context.addPlugin(readFileSync(markdown.getPath()), forMarkdown as Record<string, unknown>)

const isCheck = process.argv.includes("--check")
const files = execFileSync("git", ["ls-files", "--cached", "--others", "--exclude-standard"], { encoding: "utf8" })
  .split("\n")
  .filter((file) => /\.(?:ts|json|jsonc|md)$/u.test(file) && existsSync(file))
  .filter((file) => !excludes.some((excluded) => file === excluded || file.startsWith(`${excluded}/`)))

const changed = files.filter((filePath) => {
  const fileText = readFileSync(filePath, "utf8")
  const formatted = context.formatText({ filePath, fileText })
  if (formatted === fileText) return false
  if (!isCheck) writeFileSync(filePath, formatted)
  return true
})

for (const file of changed) process.stdout.write(`${isCheck ? "not formatted" : "formatted"}: ${file}\n`)
if (isCheck && changed.length > 0) process.exitCode = 1
