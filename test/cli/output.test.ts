/** The forms in which data is printed, and files that are whole or not there. */
import { describe as diagnosisText } from "#cli/doctor.ts"
import { render } from "#cli/output.ts"
import { saveFile } from "#cli/saveFile.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Stream } from "effect"
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { temporaryDirectory } from "#support/process.ts"

const rows = [{ id: "a", isOn: true, sub: { x: 1 } }, { id: "bb\u001b[2J\u202e", isOn: null, sub: null }]

describe("data is printed", () => {
  it("as a table of what is short, without a control character of a row reaching the terminal", () => {
    assert.strictEqual(
      render("table", rows, ["id", "isOn"]),
      "ID       IS ON\na        true\nbb\uFFFD[2J\uFFFD  -\n"
    )
    assert.strictEqual(render("table", [], ["id"]), "")
  })

  it("as JSON, whole or line by line", () => {
    assert.deepStrictEqual(JSON.parse(render("json", rows)), rows)
    assert.deepStrictEqual(render("jsonl", rows).trimEnd().split("\n").map((line) => JSON.parse(line)), rows)
  })

  it("without a character that steers a terminal, also where JSON leaves it as it is", () => {
    const name = "\u001b[2J\u009b2J\u202e\u2028\u{E0001}\u0085"
    for (const format of ["json", "jsonl", "yaml", "table"] as const) {
      assert.notMatch(render(format, [{ name }]), /(?!\n)[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u, format)
    }
    assert.deepStrictEqual(JSON.parse(render("json", { name })), { name })
  })

  it("of a client's own words in a diagnosis, none steers the terminal or looks like a finding", () => {
    const words = "x\u001b]0;mine\u0007\nok    clients       all is well\u009b"
    const findings = [{ check: "clients", severity: "warn", what: words, why: "why", remedy: "do" } as const]
    const text = String(diagnosisText("table", { at: "2026-01-01T00:00:00Z", isWell: true, findings } as never))
    assert.notMatch(text, /(?!\n)\p{Cc}/u)
    assert.notMatch(text, /^ok/mu)
  })

  it("as YAML, in which every text is quoted, since `no` and `1e3` are none without", () => {
    assert.strictEqual(
      render("yaml", [{ id: "no", list: [1, [2]], empty: [], sub: { "odd key": "1e3", none: {} } }, "x"]),
      `- id: "no"\n  list:\n    - 1\n    - - 2\n  empty: []\n  sub:\n    "odd key": "1e3"\n    none: {}\n- "x"\n`
    )
    assert.strictEqual(render("yaml", "x"), `"x"\n`)
  })
})

describe("a file is saved", () => {
  it.live("as a whole, for its owner only, or the older one stays", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const path = join(directory, "backup")
      writeFileSync(path, "older")
      const cut = Stream.concat(Stream.make(Buffer.from("ne")), Stream.fail("cut" as const))
      assert.strictEqual(yield* Effect.flip(saveFile(path, cut, () => Effect.void)), "cut")
      const refused = saveFile(path, Stream.make(Buffer.from("ne")), () => Effect.fail("not whole" as const))
      assert.strictEqual(yield* Effect.flip(refused), "not whole")
      assert.strictEqual(readFileSync(path, "utf8"), "older")
      yield* saveFile(path, Stream.make(Buffer.from("ne"), Buffer.from("wer")), () => Effect.void)
      assert.strictEqual(readFileSync(path, "utf8"), "newer")
      assert.strictEqual(statSync(path).mode & 0o777, 0o600)
      assert.deepStrictEqual(readdirSync(directory), ["backup"])
    }))
})
