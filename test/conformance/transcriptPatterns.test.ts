/** Patterns and transcripts of the conformance kit. */
import { type Captures, type Json, mismatch, substitute } from "#conformance/pattern.ts"
import { millisOf, parseTranscript, readTranscripts } from "#conformance/transcript.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"

const captures = (entries: Readonly<Record<string, Json>> = {}): Captures => new Map(Object.entries(entries))
const isLike = (pattern: Json, value: Json, known: Captures = captures()): boolean =>
  mismatch(pattern, value, known) === undefined

describe("patterns of transcripts", () => {
  it.effect.prop(
    "plain JSON without dollar signs matches itself",
    { value: Schema.Json },
    ({ value }) =>
      Effect.sync(() => {
        const text = JSON.stringify(value).replaceAll("$", "S")
        const plain: Json = JSON.parse(text)
        assert.isUndefined(mismatch(plain, plain, captures()))
        assert.deepStrictEqual(substitute(plain, captures()), plain)
      })
  )

  it("names of inherited properties such as constructor are ordinary texts and fields", () => {
    for (const word of Object.getOwnPropertyNames(Object.prototype)) {
      assert.isTrue(isLike(word, word), word)
      const field = JSON.parse(`{${JSON.stringify(word)}:1}`)
      assert.isTrue(isLike(field, field), word)
      assert.isTrue(isLike({ [word]: "$absent" }, {}) || word === "__proto__", word)
      assert.isFalse(isLike({ $exactly: {} }, field), word)
    }
  })

  it("a pattern ignores fields that it does not name, and only those", () => {
    assert.isTrue(isLike({ a: 1 }, { a: 1, b: 2 }))
    assert.isFalse(isLike({ a: 1, b: 2 }, { a: 1 }))
    assert.isFalse(isLike({ $exactly: { a: 1 } }, { a: 1, b: 2 }))
    assert.isTrue(isLike({ $exactly: { a: { c: 1 } } }, { a: { c: 1, d: 2 } }))
    assert.isTrue(isLike({ a: "$absent" }, { b: 2 }))
    assert.isFalse(isLike({ a: "$absent" }, { a: null }))
  })

  it("patterns of kinds, lists and bounds match the right values", () => {
    const matching: ReadonlyArray<readonly [Json, Json]> = [
      ["$any", null],
      ["$string", ""],
      ["$int", 5],
      ["$number", 5.5],
      ["$bool", false],
      ["$array", []],
      ["$object", {}],
      [{ $above: 4 }, 5],
      [{ $contains: "b" }, "abc"],
      [{ $has: [2, 1] }, [1, 2, 3]],
      [{ $hasNone: [4] }, [1, 2, 3]],
      [{ $oneOf: [1, "$string"] }, "x"],
      ["$$any", "$any"]
    ]
    const notMatching: ReadonlyArray<readonly [Json, Json]> = [
      ["$string", 5],
      ["$int", 5.5],
      ["$number", "5"],
      ["$object", []],
      [{ $above: 5 }, 5],
      [{ $contains: "d" }, "abc"],
      [{ $has: [4] }, [1, 2, 3]],
      [{ $hasNone: [3] }, [1, 2, 3]],
      [{ $oneOf: [1, 2] }, 3],
      [[1], [1, 2]],
      [{ $unknownOperator: 1 }, 1]
    ]
    for (const [pattern, value] of matching) assert.isTrue(isLike(pattern, value), JSON.stringify(pattern))
    for (const [pattern, value] of notMatching) assert.isFalse(isLike(pattern, value), JSON.stringify(pattern))
  })

  it("captures take effect after the line, and only if the whole pattern matches", () => {
    const known = captures({ r: 5 })
    assert.isTrue(isLike({ revision: "$r=$int", previous: "$r" }, { revision: 7, previous: 5 }, known))
    assert.strictEqual(known.get("r"), 7)
    assert.isFalse(isLike({ id: "$id=$string", other: 1 }, { id: "x", other: 2 }, known))
    assert.isFalse(known.has("id"))
  })

  it("captures replace names in sent values, and an unknown name throws", () => {
    const known = captures({ id: "a1", r: 5, list: [1] })
    assert.deepStrictEqual(
      substitute({ path: "/api/agents/${id}", list: "$list", next: { $plus: ["$r", 2] } }, known),
      {
        path: "/api/agents/a1",
        list: [1],
        next: 7
      }
    )
    assert.strictEqual(substitute({ $repeat: ["ab", 3] }, known), "ababab")
    assert.throws(() => substitute("$missing", known), /missing/u)
  })

  it("a mismatch names the path, the value and the expected value", () => {
    assert.strictEqual(
      mismatch({ a: [{ b: "$int" }] }, { a: [{ b: "x" }] }, captures()),
      "a[0].b is \"x\", expected \"$int\""
    )
    assert.strictEqual(mismatch({ a: 1 }, {}, captures()), "a is missing")
  })
})

describe("transcripts", () => {
  it("parsing an invalid transcript throws with the position of the error", () => {
    assert.throws(() => parseTranscript("x", "{\"transcript\":\"t\"}\nnonsense"), /x:2/u)
    assert.throws(() => parseTranscript("x", "{\"from\":\"client\"}"), /transcript/u)
    assert.throws(() => millisOf("soon", ""), /soon/u)
    assert.strictEqual(millisOf("1.5 seconds", ""), 1_500)
  })

  it("every transcript has only lines of known kinds, and captures every name before its use", () => {
    const kinds = {
      server: ["operator", "connect", "pause", "from", "expectClose", "close"],
      client: ["accept", "noConnection", "restart", "stateFile", "from", "expectClose", "close"]
    }
    for (const kit of ["server", "client"] as const) {
      const transcripts = readTranscripts(`conformance/${kit}`)
      assert.isAbove(transcripts.length, 30)
      for (const { lines, name } of transcripts) {
        const known = new Set(["run", "apiKey", "any", "string", "int", "number", "bool", "array", "object", "absent"])
        if (kit === "server") { for (const capture of ["certificate", "privateKey", "expiresAt"]) known.add(capture) }
        for (const { fields, number, text } of lines) {
          assert.lengthOf(kinds[kit].filter((kind) => kind in fields), 1, `${name}:${number}`)
          for (const [, capture = ""] of text.matchAll(/"\$(\w+)=/gu)) known.add(capture)
          for (const [, whole, inside] of text.matchAll(/"\$(\w+)"(?!:)|\$\{(\w+)\}/gu)) {
            assert.include([...known], whole ?? inside, `${name}:${number}`)
          }
        }
      }
    }
  })
})
