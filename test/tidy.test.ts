/** House rules that neither the linter nor the compiler can check. */
import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import { existsSync, globSync, readdirSync, readFileSync } from "node:fs"
import { dirname, join } from "node:path"

const root = join(import.meta.dirname, "..")
const read = (path: string) => readFileSync(join(root, path), "utf8")

const sources = globSync("{schema,src,test,bench,demo,conformance,examples}/**/*.ts", { cwd: root }).toSorted()
  .map((path) => ({ path, lines: read(path).split("\n") }))

/** `path:line` of every line that the rule finds fault with. */
const faults = (within: RegExp, isFault: (line: string, before: string) => boolean): ReadonlyArray<string> =>
  sources.filter(({ path }) => within.test(path)).flatMap(({ lines, path }) =>
    lines.flatMap((line, index) => isFault(line, lines[index - 1] ?? "") ? [`${path}:${index + 1}`] : [])
  )

const Versions = Schema.Record(Schema.String, Schema.String)

const { imports, ...dependencies } = Schema.decodeUnknownSync(Schema.fromJsonString(Schema.Struct({
  imports: Versions,
  dependencies: Versions,
  devDependencies: Versions,
  optionalDependencies: Versions
})))(read("package.json"))

const { overrides } = Schema.decodeUnknownSync(Schema.fromJsonString(Schema.Struct({
  overrides: Schema.Array(Schema.Struct({
    files: Schema.Array(Schema.String),
    rules: Schema.Record(Schema.String, Schema.Unknown)
  }))
})))(read(".oxlintrc.json"))

describe("the house", () => {
  it("every folder of src says what it may import", () => {
    const governed = new Set(
      overrides.filter(({ rules }) => "no-restricted-imports" in rules).flatMap(({ files }) => files)
    )
    const folders = readdirSync(join(root, "src"), { withFileTypes: true }).filter((entry) => entry.isDirectory())
    assert.isNotEmpty(folders)
    assert.deepStrictEqual(folders.map(({ name }) => `src/${name}/**`).filter((glob) => !governed.has(glob)), [])
  })

  it("every #name that is imported leads to a file", () => {
    const dangling = faults(/./u, (line) => {
      const name = /(?:from |import\()"(#[^"]+)"/u.exec(line)?.[1]
      return name !== undefined && !existsSync(join(root, resolveName(name)))
    })
    assert.deepStrictEqual(dangling, [])
  })

  it("no file has more than 300 lines", () => {
    const long = sources.filter(({ lines }) => lines.length > 301).map(({ lines, path }) =>
      `${path}: ${lines.length - 1}`
    )
    assert.deepStrictEqual(long, [])
  })

  it("every relative link in a document leads to a file", () => {
    const links = globSync("{*,docs/*,conformance/*}.md", { cwd: root }).flatMap((path) =>
      [...read(path).matchAll(/\]\(([^)\s#]+)[^)]*\)/gu)].map(([, link = ""]) => ({ path, link }))
    )
    const relative = links.filter(({ link }) => !/^[a-z]+:/u.test(link))
    assert.isNotEmpty(relative)
    assert.deepStrictEqual(relative.filter(({ link, path }) => !existsSync(join(root, dirname(path), link))), [])
  })

  it("the README shows the agent in 30 lines as it is, and it is no longer than that", () => {
    const agent = read("examples/agent-in-30-lines.ts").trim()
    assert.include(read("README.md"), `\`\`\`ts\n${agent}\n\`\`\``)
    assert.isAtMost(agent.split("\n").length, 30)
  })

  it("nothing is left for later in a comment", () => {
    assert.deepStrictEqual(faults(/./u, (line) => /\b(?:TO[D]O|FIX[M]E|X[X]X)\b/u.test(line)), [])
  })

  it("time is never read from the system behind the Clock's back", () => {
    assert.deepStrictEqual(faults(/^(?:src|schema)\//u, (line) => /\bnew Date\(\)|\bDate\.now\b/u.test(line)), [])
  })

  it("no test runs alone, and a skipped one says why", () => {
    assert.deepStrictEqual(
      faults(/^test\//u, (line) => /\b(?:it|test|describe|layer)(?:\.\w+)*\.only\b/u.test(line)),
      []
    )
    const skips =
      /\b(?:it|test|describe|layer)(?:\.\w+)*\.(?:skip|skipIf|runIf|todo|fails)\b|\b(?:ctx|context)\.skip\(/u
    assert.deepStrictEqual(
      faults(/^test\//u, (line, before) => skips.test(line) && !hasReason(line) && !hasReason(before)),
      []
    )
  })

  it("every dependency has an exact version", () => {
    const loose = Object.values(dependencies).flatMap((group) => Object.entries(group))
      .filter(([, version]) => !/^\d+\.\d+\.\d+(?:-[\w.]+)?$/u.test(version))
    assert.deepStrictEqual(loose, [])
  })
})

function resolveName(name: string): string {
  const exact = imports[name]
  if (exact !== undefined) return exact
  const folder = name.slice(0, name.indexOf("/") + 1)
  return imports[`${folder}*`]?.replace("*", name.slice(folder.length)) ?? `unknown/${name}`
}

/** A comment, or a name that tells where the test runs. */
function hasReason(line: string): boolean {
  return /(?:^|\s)\/\/ \S|\*\/\s*$|\bonly where\b/u.test(line)
}
