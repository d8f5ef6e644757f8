/** Messages as the protocol's own schemas give them, and what lies just beside: everything that is JSON, or nearly. */
import { AgentMessage, AgentMessageV1, GatewayMessage, GatewayMessageV1, type Level } from "#schema/protocol.ts"
import type { ClientType } from "#schema/ids.ts"
import { Arbitrary, Effect, Schema } from "effect"
import type { Chance } from "./chance.ts"

interface Message {
  readonly type: string
  readonly data: object
}

/** So many of each kind are made once, and varied from then on. */
const poolSize = 400

const schemas = {
  plain: { agent: AgentMessage, gateway: GatewayMessage },
  "control.v1": { agent: AgentMessageV1, gateway: GatewayMessageV1 }
}

export type Pool = Record<Level, Record<ClientType, ReadonlyArray<Message>>>

export const makePool = (seed: number): Pool => {
  const sample = (schema: Schema.Codec<Message, unknown>): ReadonlyArray<Message> =>
    Effect.runSync(
      Arbitrary.sampleEffect(Arbitrary.schema(Schema.toEncoded(schema)), { count: poolSize, seed })
    ) as never
  const both = (level: Level) => ({ agent: sample(schemas[level].agent), gateway: sample(schemas[level].gateway) })
  return { plain: both("plain"), "control.v1": both("control.v1") }
}

/** One message, valid or nearly, as the text of a frame. */
export const say = (pool: Pool, level: Level, type: ClientType, chance: Chance): string => {
  const message = structuredClone(chance.of(pool[level][type]))
  if (chance.is(0.3)) return JSON.stringify(message)
  if (chance.is(0.06)) return chance.of(hostileTexts)()
  const marks: Array<string> = []
  for (let times = 1 + chance.int(2); times > 0; times--) spoil(message as never, chance, marks)
  const text = JSON.stringify(message)
  return marks.reduce((all, mark, index) => all.replace(`"@raw${index}@"`, () => mark), text)
}

/** Changes one place of the tree; what JSON has no word for is put in afterwards, as text. */
function spoil(node: Record<string, unknown>, chance: Chance, marks: Array<string>): void {
  const keys = Object.keys(node)
  const key = keys.length === 0 ? "data" : chance.of(keys)
  const inner = node[key]
  if (typeof inner === "object" && inner !== null && chance.is(0.75)) return spoil(inner as never, chance, marks)
  switch (chance.int(5)) {
    case 0:
      delete node[key]
      return
    case 1:
      Object.defineProperty(node, chance.of(oddKeys), {
        value: structuredClone(chance.of(oddValues)),
        enumerable: true,
        configurable: true,
        writable: true
      })
      return
    case 2:
      marks.push(chance.of(rawValues))
      node[key] = `@raw${marks.length - 1}@`
      return
    case 3:
      node[key] = chance.of(hostileStrings)
      return
    case 4:
      node[key] = structuredClone(chance.of(oddValues))
  }
}

const oddKeys = [
  "__proto__",
  "constructor",
  "prototype",
  "toString",
  "hasOwnProperty",
  "",
  "type",
  "data",
  "then",
  "\0"
]

const oddValues: ReadonlyArray<unknown> = [
  null,
  true,
  0,
  -1,
  0.5,
  Number.MAX_SAFE_INTEGER,
  -Number.MAX_VALUE,
  [],
  {},
  [[]],
  { isAdmin: true },
  "",
  Array.from({ length: 1_001 }, () => ({ domain: "a.example.com", status: "active" }))
]

const rawValues = [
  "9007199254740993",
  "1e999",
  "-1e999",
  "-0",
  "1E+2",
  "{\"a\":1,\"a\":2}",
  "NaN",
  "Infinity",
  "01",
  "+1"
]

const hostileStrings = [
  "\0",
  "a\0b",
  "\ud800",
  "\udc00\ud800",
  "'; drop table agents; --",
  "' or '1'='1",
  "1); delete from api_keys where (1=1",
  "\\'; select pg_sleep(10); --",
  "$$; drop schema public cascade; $$",
  "{}\n{\"level\":\"fatal\",\"message\":\"forged\"}",
  "\r\nSet-Cookie: a=b",
  "\u001b[2J\u001b]0;owned\u0007",
  "%s%s%n${jndi:ldap://127.0.0.1/a}",
  "<script>alert(1)</script>",
  "../../../../etc/passwd",
  "::ffff:127.0.0.1%lo",
  "xn--\u202ea.example.com",
  `${"a.".repeat(200)}com`,
  "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
  "9999-12-31T23:59:60Z",
  "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
  "x".repeat(20_000)
]

/** Whole texts, made when they are wanted: some are long. */
const hostileTexts: ReadonlyArray<() => string> = [
  () => "[".repeat(60_000),
  () => `${"[".repeat(30_000)}${"]".repeat(30_000)}`,
  () => `${"{\"data\":".repeat(8_000)}1${"}".repeat(8_000)}`,
  () => `{"type":"heartbeat","data":{${Array.from({ length: 10_000 }, (_, key) => `"k${key}":0`).join()}}}`,
  () => `{"type":"heartbeat","data":{"timestamp":1,"timestamp":"two"}}`,
  () => `{"type":"heartbeat","data":{"timestamp":${"9".repeat(5_000)}}}`,
  () => `{"type":"${"t".repeat(50_000)}","data":{}}`,
  () => `{"__proto__":{"isAdmin":true},"type":"__proto__","data":{"__proto__":{"isAdmin":true}}}`,
  () => `{"type":"constructor","data":{"prototype":{}}}`,
  () => "",
  () => " ",
  () => "null",
  () => "\ufeff{}",
  () => "{\"type\":\"heartbeat\",\"data\":{\"timestamp\":1}",
  () => "\"\\u0000\\ud800\""
]
