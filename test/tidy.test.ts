/** House rules that neither the linter nor the compiler checks by itself. */
import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import { spawnSync } from "node:child_process"
import { existsSync, globSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"

const root = join(import.meta.dirname, "..")
const read = (path: string) => readFileSync(join(root, path), "utf8")

const linesOf = (pattern: string) =>
  globSync(pattern, { cwd: root, exclude: ["**/node_modules/**", "schema/generated/**"] }).toSorted()
    .map((path) => ({ path, lines: read(path).split("\n") }))

const sources = linesOf("{schema,src,test,bench,demo,conformance,examples,tools}/**/*.{ts,mjs,py}")
const documents = linesOf("{*,docs/*,conformance/*,deploy/*}.md")

/** `path:line` of every line in `files` that breaks the rule. */
const faults = (
  files: typeof sources,
  within: RegExp,
  isFault: (line: string, before: string) => boolean
): ReadonlyArray<string> =>
  files.filter(({ path }) => within.test(path)).flatMap(({ lines, path }) =>
    lines.flatMap((line, index) =>
      isFault(line, lines[index - 1] ?? "") ? [`${path}:${index + 1}: ${line.trim()}`] : []
    )
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

describe("the source tree", () => {
  it("every folder of src has an import rule", () => {
    const governed = new Set(
      overrides.filter(({ rules }) => "no-restricted-imports" in rules).flatMap(({ files }) => files)
    )
    const rooms = [...foldersIn("src").filter((folder) => folder !== "src/server"), ...foldersIn("src/server")]
    assert.isAtLeast(rooms.length, 20)
    assert.deepStrictEqual(rooms.filter((room) => !governed.has(`${room}/**`)), [])
  })

  it.each([
    ["src/sdk", "#store/sql.ts"],
    ["src/sdk", "#server/Settings.ts"],
    ["src/wireguard", "#server/Settings.ts"],
    ["src/wireguard", "#sdk/Client.ts"],
    ["src/agent", "#clients/ClientRegistry.ts"],
    ["src/gateway", "#crypto/Cipher.ts"],
    ["src/console", "#server/Control.ts"],
    ["src/console", "#sdk/Client.ts"],
    ["src/server/network", "#views/view.ts"],
    ["src/server/network", "#store/sql.ts"],
    ["src/server/views", "#feed/Network.ts"],
    ["src/server/session", "#connection/Connection.ts"],
    ["src/server/store", "#feed/Network.ts"],
    ["src/server/feed", "#clients/ClientRegistry.ts"],
    ["src/server/cluster", "#clients/ClientRegistry.ts"],
    ["src/server/clients", "#connection/Connection.ts"],
    ["src/server/services", "#http/Server.ts"],
    ["src/server/connection", "#http/Server.ts"],
    ["src/server/connection", "effect/sql"],
    ["src/server/http", "#store/AgentStore.ts"],
    ["src/cli", "#connection/Connection.ts"],
    ["schema", "#network/NetworkState.ts"]
  ])("the linter rejects a file of %s that imports %s", (room, name) => {
    const output = lintPlanted({ [`${room}/planted.ts`]: `import * as planted from "${name}"\n\nvoid planted\n` })
    assert.include(output, "no-restricted-imports")
    assert.include(output, `'${name}'`)
  })

  it("the linter rejects an import circle that consists of types", () => {
    const output = lintPlanted({
      "src/sdk/one.ts": `import type { Two } from "./two.ts"\n\nexport interface One {\n  readonly two: Two\n}\n`,
      "src/sdk/two.ts": `import type { One } from "./one.ts"\n\nexport interface Two {\n  readonly one: One\n}\n`
    })
    assert.include(output, "no-cycle")
  })

  it("every #name that is imported leads to a file", () => {
    const dangling = faults(sources, /./u, (line) => {
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
    const links = documents.flatMap(({ path }) =>
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

  it("no comment postpones work", () => {
    assert.deepStrictEqual(faults(sources, /./u, (line) => /\b(?:TO[D]O|FIX[M]E|X[X]X)\b/u.test(line)), [])
  })

  it("time is read from clocks only, and from the system in one file", () => {
    assert.deepStrictEqual(
      faults(
        sources,
        /^(?:src|schema)\/(?!processes\/clock\.ts)/u,
        (line) => /\bnew Date\(\)|\bDate\.now\b/u.test(line)
      ),
      []
    )
  })

  it("no test runs alone, and a skipped one says why", () => {
    assert.deepStrictEqual(
      faults(sources, /^test\//u, (line) => /\b(?:it|test|describe|layer)(?:\.\w+)*\.only\b/u.test(line)),
      []
    )
    const skips =
      /\b(?:it|test|describe|layer)(?:\.\w+)*\.(?:skip|skipIf|runIf|todo|fails)\b|\b(?:ctx|context)\.skip\(/u
    assert.deepStrictEqual(
      faults(sources, /^test\//u, (line, before) => skips.test(line) && !hasReason(line) && !hasReason(before)),
      []
    )
  })

  it("every dependency has an exact version", () => {
    const loose = Object.values(dependencies).flatMap((group) => Object.entries(group))
      .filter(([, version]) => !/^\d+\.\d+\.\d+(?:-[\w.]+)?$/u.test(version))
    assert.deepStrictEqual(loose, [])
  })
})

describe("the language", () => {
  /** Words of the old dialect; the replacements stand in CONTRIBUTING.md. A quoted or backticked `nobody` is the account. */
  const banned = new RegExp(
    "(?<![\\w`\"'])(?:told|tells|anew|mend(?:s|ed|ing)?|whoever|whom|nobody|somebody|everybody|lately|left out|so many|" +
      "goes on|beside|meanwhile|of its own|in force|for ever)(?![\\w`\"'])",
    "iu"
  )

  /** A comment at the top of a file, or a title, that begins with a wh-word instead of a noun or a verb. */
  const header = /^\s*(?:\/\*\*|\*|#+)\s+(?:what|who|whose|whom|how|where|when|whether|which|why|of|it)\b/iu

  const own = /^test\/tidy\.test\.ts$|^CONTRIBUTING\.md$/u

  it("no comment, string or page uses a banned word", () => {
    const found = faults([...sources, ...documents], /./u, (line) => banned.test(line))
    assert.deepStrictEqual(found.filter((place) => !own.test(place.split(":")[0] ?? "")), [])
  })

  it("every file header begins with a noun or a verb", () => {
    const headers = sources.map(({ lines, path }) => {
      const first = lines.findIndex((line) => line.startsWith("/**"))
      return { path, lines: first === -1 || first > 1 ? [] : lines.slice(first, first + 2) }
    })
    assert.isAtLeast(headers.filter(({ lines }) => lines.length > 0).length, 300)
    assert.deepStrictEqual(faults(headers, /./u, (line) => header.test(line)), [])
  })

  it("every file of src and schema has a header", () => {
    const bare = sources.filter(({ path }) => /^(?:src|schema)\//u.test(path))
      .filter(({ lines }) => !/^(?:#!|\/\*\*)/u.test(lines[0] ?? ""))
    assert.deepStrictEqual(bare.map(({ path }) => path), [])
  })
})

function foldersIn(folder: string): ReadonlyArray<string> {
  return readdirSync(join(root, folder), { withFileTypes: true }).filter((entry) => entry.isDirectory())
    .map(({ name }) => `${folder}/${name}`)
}

/** The output of oxlint, under the project's rules, over files that exist for this one run in a temporary directory. */
function lintPlanted(files: Readonly<Record<string, string>>): string {
  const directory = mkdtempSync(join(tmpdir(), "control-lint-"))
  try {
    writeFileSync(join(directory, ".oxlintrc.json"), read(".oxlintrc.json"))
    for (const [path, text] of Object.entries(files)) {
      mkdirSync(join(directory, dirname(path)), { recursive: true })
      writeFileSync(join(directory, path), text)
    }
    const { stderr, stdout } = spawnSync(process.execPath, [join(root, "node_modules/oxlint/bin/oxlint")], {
      cwd: directory,
      encoding: "utf8"
    })
    return stdout + stderr
  } finally {
    rmSync(directory, { recursive: true })
  }
}

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
