/** Generates random client messages from the protocol's schemas, and mutates most of them. */
import { AgentMessage, AgentMessageV1, GatewayMessage, GatewayMessageV1, type Level } from "#schema/protocol.ts"
import type { ClientType } from "#schema/ids.ts"
import { Arbitrary, Effect, Schema } from "effect"
import type { SeededRandom } from "#support/SeededRandom.ts"

interface Message {
  readonly type: string
  readonly data: object
}

/** Valid messages per level and client type, which are generated once and then mutated. */
const poolSize = 400

const schemas = {
  plain: { agent: AgentMessage, gateway: GatewayMessage },
  "control.v1": { agent: AgentMessageV1, gateway: GatewayMessageV1 }
}

export type MessagePool = Record<Level, Record<ClientType, ReadonlyArray<Message>>>

export const makeMessagePool = (seed: number): MessagePool => {
  const sample = (schema: Schema.Codec<Message, unknown>): ReadonlyArray<Message> =>
    Effect.runSync(
      Arbitrary.sampleEffect(Arbitrary.schema(Schema.toEncoded(schema)), { count: poolSize, seed })
    ) as never
  const both = (level: Level) => ({ agent: sample(schemas[level].agent), gateway: sample(schemas[level].gateway) })
  return { plain: both("plain"), "control.v1": both("control.v1") }
}

/** Returns the text of one message, valid or mutated. */
export const randomMessage = (pool: MessagePool, level: Level, type: ClientType, random: SeededRandom): string => {
  const message = structuredClone(random.pick(pool[level][type]))
  if (random.chance(0.3)) return JSON.stringify(message)
  if (random.chance(0.06)) return random.pick(hostileTexts)()
  const rawTexts: Array<string> = []
  for (let times = 1 + random.int(2); times > 0; times--) mutate(message as never, random, rawTexts)
  const text = JSON.stringify(message)
  return rawTexts.reduce((all, mark, index) => all.replace(`"@raw${index}@"`, () => mark), text)
}

/** Changes one node of the tree. Raw text that is not valid JSON replaces a placeholder after encoding. */
function mutate(node: Record<string, unknown>, random: SeededRandom, rawTexts: Array<string>): void {
  const keys = Object.keys(node)
  const key = keys.length === 0 ? "data" : random.pick(keys)
  const inner = node[key]
  if (typeof inner === "object" && inner !== null && random.chance(0.75))
    return mutate(inner as never, random, rawTexts)
  switch (random.int(5)) {
    case 0:
      delete node[key]
      return
    case 1:
      Object.defineProperty(node, random.pick(unusualKeys), {
        value: structuredClone(random.pick(unusualValues)),
        enumerable: true,
        configurable: true,
        writable: true
      })
      return
    case 2:
      rawTexts.push(random.pick(rawValues))
      node[key] = `@raw${rawTexts.length - 1}@`
      return
    case 3:
      node[key] = random.pick(hostileStrings)
      return
    case 4:
      node[key] = structuredClone(random.pick(unusualValues))
  }
}

const unusualKeys = [
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

const unusualValues: ReadonlyArray<unknown> = [
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

/** Complete texts, created on demand, because some are long. */
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
