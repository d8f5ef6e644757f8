/** WireGuard keys that a client may send as its own. */
import { generateWireguardKeyPair, isUsableWireguardKey } from "#crypto/wireguardKeys.ts"
import { TestServer } from "#support/TestServer.ts"
import { connect, joinV1 } from "#support/TestClient.ts"
import { assert, it, layer } from "@effect/vitest"
import { Effect } from "effect"

/** Points of low order on Curve25519 (u-coordinates, little-endian), and their forms with the unused top bit. */
const lowOrder = [
  "00".repeat(32),
  `01${"00".repeat(31)}`,
  "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
  "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
  `ec${"ff".repeat(30)}7f`,
  `ed${"ff".repeat(30)}7f`,
  `ee${"ff".repeat(30)}7f`,
  `${"00".repeat(31)}80`
].map((hex) => Buffer.from(hex, "hex").toString("base64"))

it("a point of low order is no usable key, and every generated key is usable", () => {
  for (const key of lowOrder) assert.isFalse(isUsableWireguardKey(key), key)
  for (let times = 0; times < 50; times++) assert.isTrue(isUsableWireguardKey(generateWireguardKeyPair().publicKey))
})

it("each point has one accepted encoding, so that two clients cannot have one key", () => {
  const point = Buffer.from(generateWireguardKeyPair().publicKey, "base64")
  const encode = (first: number, last: number, rest: Buffer = point) => {
    const copy = Buffer.from(rest)
    copy.writeUInt8(first, 0)
    copy.writeUInt8(last, 31)
    return copy.toString("base64")
  }
  const [first, last] = [point.readUInt8(0), point.readUInt8(31)]
  assert.isTrue(isUsableWireguardKey(encode(first, last)))
  assert.isFalse(isUsableWireguardKey(encode(first, last | 0x80)), "the same point with the top bit")
  // 9, the base point, and 9 + 2^255 - 19.
  assert.isTrue(isUsableWireguardKey(encode(9, 0, Buffer.alloc(32))))
  assert.isFalse(isUsableWireguardKey(encode(0xed + 9, 0x7f, Buffer.alloc(32, 0xff))))
})

layer(TestServer.layer(), { excludeTestServices: true })("a client that sends a WireGuard public key", (it) => {
  const refused = Effect.fnUntraced(function*(type: "agent" | "gateway", apiKey: string, wireguardPublicKey: string) {
    const { wsPort } = yield* TestServer
    const client = yield* connect(wsPort, `?type=${type}`, { protocols: ["control.v1"] })
    client.send({ type: "auth", data: { apiKey, wireguardPublicKey } })
    assert.strictEqual((yield* client.expect("error")).data["code"], "wireguard_key_rejected")
    assert.strictEqual((yield* client.closed).code, 4400)
  })

  it.effect("a client that sends a key of low order or the key of another client is rejected", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      const [agent, gateway, other] = yield* Effect.all([server.newAgent, server.newGateway, server.newAgent])
      const { publicKey } = generateWireguardKeyPair()
      const owner = yield* joinV1(server.wsPort, "agent", agent.apiKey, { wireguardPublicKey: publicKey })
      yield* owner.expect("config")
      const made = yield* joinV1(server.wsPort, "gateway", gateway.apiKey)
      const { wireguardPublicKey: made1 } = (yield* made.expect("config")).data["gateway"]
      for (const key of [publicKey, made1, ...lowOrder.slice(0, 2)]) yield* refused("agent", other.apiKey, key)
      yield* refused("gateway", (yield* server.newGateway).apiKey, publicKey)
    }))

  it.effect("a client may send the same key again, and a new one", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      const { apiKey } = yield* server.newAgent
      const [first, second] = [generateWireguardKeyPair().publicKey, generateWireguardKeyPair().publicKey]
      for (const wireguardPublicKey of [first, first, second, first]) {
        const client = yield* joinV1(server.wsPort, "agent", apiKey, { wireguardPublicKey })
        assert.strictEqual((yield* client.expect("config")).data["agent"].wireguardPublicKey, wireguardPublicKey)
      }
    }))

  it.effect("one of several clients that send the same new key at the same moment is accepted, the others are rejected", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      const agents = yield* Effect.all(Array.from({ length: 6 }, () => server.newAgent))
      const gateways = yield* Effect.all(Array.from({ length: 2 }, () => server.newGateway))
      for (let times = 0; times < 4; times += 1) {
        const { publicKey } = generateWireguardKeyPair()
        const connectAll = (type: "agent" | "gateway", clients: typeof agents) =>
          clients.map(({ apiKey }) => connectWith(server.wsPort, type, apiKey, publicKey))
        const first = yield* Effect.all([...connectAll("agent", agents), ...connectAll("gateway", gateways)], {
          concurrency: "unbounded"
        })
        assert.deepStrictEqual(
          first.map(({ type }) => type).toSorted(),
          ["auth_success", ...Array.from({ length: 7 }, () => "error")]
        )
        const codes = new Set(first.flatMap(({ data, type }) => type === "error" ? [data["code"]] : []))
        assert.deepStrictEqual([...codes], ["wireguard_key_rejected"])
      }
    }))
})

/** The first answer to an `auth` with this key. */
const connectWith = Effect.fnUntraced(
  function*(port: number, type: string, apiKey: string, wireguardPublicKey: string) {
    const client = yield* connect(port, `?type=${type}`, { protocols: ["control.v1"] })
    client.send({ type: "auth", data: { apiKey, wireguardPublicKey } })
    return yield* client.next
  }
)
