/** Output formats of `control`, and files that are saved completely or not at all. */
import { formatDiagnosis } from "#cli/doctor.ts"
import { render } from "#cli/output.ts"
import { saveFile } from "#cli/saveFile.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Stream } from "effect"
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { temporaryDirectory } from "#support/temporaryFiles.ts"

const rows = [{ id: "a", isOn: true, sub: { x: 1 } }, { id: "bb\u001b[2J\u202e", isOn: null, sub: null }]

const now = Date.parse("2026-12-01T12:00:00.000Z")

describe("output formats", () => {
  it("a table has the requested columns and replaces control characters", () => {
    assert.strictEqual(
      render("table", rows, { columns: ["id", "isOn"], now }),
      "ID       IS ON\na        true\nbb\uFFFD[2J\uFFFD  -\n"
    )
    assert.strictEqual(render("table", [], { columns: ["id"], now }), "")
  })

  it("a table shows relative times and no JSON, a single item shows exact times too", () => {
    const row = {
      name: "home",
      lastSeenAt: "2026-12-01T11:57:00.000Z",
      expiresAt: "2027-02-28T12:00:00.500Z",
      serves: { agents: ["a", "b"], domains: [] },
      certificate: "-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----\n"
    }
    assert.strictEqual(
      render("table", [row], { columns: ["name", "lastSeenAt", "expiresAt", "serves"], now }),
      "NAME  LAST SEEN  EXPIRES  SERVES\nhome  3 min ago  in 89 d  agents a, b, domains -\n"
    )
    assert.include(
      render("table", [row], { columns: ["lastSeenAt"], hasExactTimes: true, now }),
      "2026-12-01T11:57:00.000Z"
    )
    const fields = render("table", row, { now })
    assert.include(fields, "lastSeenAt   2026-12-01T11:57:00.000Z (3 min ago)\n")
    assert.include(fields, "certificate  1 PEM block; -o json prints it\n")
  })

  it("the format env prints the secret under the name that programs read", () => {
    assert.strictEqual(
      render("env", { id: "x", apiKey: "ctl_gw_1_2" }, { now }),
      "CONTROL_API_KEY=ctl_gw_1_2\n"
    )
    assert.strictEqual(render("env", { token: "ctl_adm_1_2" }, { now }), "CONTROL_ADMIN_TOKEN=ctl_adm_1_2\n")
  })

  it("JSON is printed as one document or as one line for each item", () => {
    assert.deepStrictEqual(JSON.parse(render("json", rows, { now })), rows)
    assert.deepStrictEqual(render("jsonl", rows, { now }).trimEnd().split("\n").map((line) => JSON.parse(line)), rows)
  })

  it("no format prints control characters, not even those that JSON.stringify keeps", () => {
    const name = "\u001b[2J\u009b2J\u202e\u2028\u{E0001}\u0085"
    for (const format of ["json", "jsonl", "table"] as const) {
      assert.notMatch(render(format, [{ name }], { now }), /(?!\n)[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u, format)
    }
    assert.deepStrictEqual(JSON.parse(render("json", { name }, { now })), { name })
  })

  it("a client's message in a diagnosis cannot control the terminal or look like a finding", () => {
    const message = "x\u001b]0;mine\u0007\nok    clients       all is well\u009b"
    const findings = [{ check: "clients", severity: "warn", what: message, why: "why", remedy: "do" } as const]
    const text = String(formatDiagnosis("table", { at: "2026-01-01T00:00:00Z", isWell: true, findings } as never))
    assert.notMatch(text, /(?!\n)\p{Cc}/u)
    assert.notMatch(text, /^ok/mu)
  })
})

describe("saveFile", () => {
  it.live("a file is saved completely and for its owner only; otherwise the older file stays", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const path = join(directory, "backup")
      writeFileSync(path, "older")
      const broken = Stream.concat(Stream.make(Buffer.from("ne")), Stream.fail("broken" as const))
      assert.strictEqual(yield* Effect.flip(saveFile(path, broken, () => Effect.void)), "broken")
      const rejected = saveFile(path, Stream.make(Buffer.from("ne")), () => Effect.fail("incomplete" as const))
      assert.strictEqual(yield* Effect.flip(rejected), "incomplete")
      assert.strictEqual(readFileSync(path, "utf8"), "older")
      yield* saveFile(path, Stream.make(Buffer.from("ne"), Buffer.from("wer")), () => Effect.void)
      assert.strictEqual(readFileSync(path, "utf8"), "newer")
      assert.strictEqual(statSync(path).mode & 0o777, 0o600)
      assert.deepStrictEqual(readdirSync(directory), ["backup"])
    }))
})
