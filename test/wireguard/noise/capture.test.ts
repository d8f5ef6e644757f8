/** Handshakes in both roles against messages that wireguard-go 0.0.20220316 has sent and accepted. */
import { hasValidMac1, MacWriter } from "#wireguard/noise/cookies.ts"
import {
  localIdentity,
  readInitiation,
  readResponse,
  readTimestamp,
  remoteIdentity,
  writeInitiation,
  writeResponse
} from "#wireguard/noise/handshake.ts"
import { Session } from "#wireguard/noise/Session.ts"
import { assert, describe, it } from "@effect/vitest"

const hex = (text: string) => Buffer.from(text, "hex")

const local = localIdentity(hex("c8c7c6c5c4c3c2c1c0bfbebdbcbbbab9b8b7b6b5b4b3b2b1b0afaeadacabaaa9"))
const remote = remoteIdentity(
  local,
  localIdentity(hex("6065666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f80818243")).publicKey
)!

const withMacs = (message: Buffer): Buffer => {
  new MacWriter(remote).write(0, message)
  return message
}

describe("as the initiator", () => {
  const initiation = hex(
    "01000000040302017b4e909bbe7ffe44c465a220037d608ee35897d31ef972f07f74892cb0f73f1327eafd6e1b13d693" +
      "58f884acebff5fca15bbffd49941b8bbb5c902db4d0a8755be03c8515c75c0c678271e6c1a2def3d2d5d5cea22d61b7c" +
      "60c37820613b029eadc0960783237678df755e5826d8dbac7db7015283d7f4a2e8f56e6c000000000000000000000000" +
      "00000000"
  )
  const response = hex(
    "0200000059d53848040302011907e786b3b0f6c76cb83034a9f583df95d03d10318df3c1cbe20225a80a9c0ad5a03e6e" +
      "4b96ffeb0514add4daa400ba096ba4b631b8e3308a089d488df24a9b00000000000000000000000000000000"
  )
  const ping = hex("45000028000000004001660d0a6300020a6300010800568712340000636f6e74726f6c2070696e67")
  const sealedPing = hex(
    "0400000059d538480000000000000000bb229361594eb9a33e605181b630eafcffb625d38b34b138921702e74397c96e" +
      "b2dfbfcacd823141675fbcb131bddb95b9d632d01e7e781f3a62815e62c9db94"
  )
  const reply = hex(
    "04000000040302010000000000000000a6c20733e3f333e443ba8331038285ae44266c294eab9fb2cbb66cb9b2f2d86f" +
      "26f2d2ded5030a2a385ea88f7e87506304775b160bd1fa35225b7e8fa74936e4"
  )
  const packet = hex("45000028d00f0000400195fd0a6300010a63000200005e8712340000636f6e74726f6c2070696e67")

  const written = writeInitiation(local, remote, {
    localIndex: 0x01020304,
    seed: Buffer.alloc(32, 0x11),
    timestamp: hex("400000006553f10a0754d4c0")
  })!

  it("the initiation is the one that wireguard-go has answered", () => {
    assert.deepStrictEqual(withMacs(written.message).toString("hex"), initiation.toString("hex"))
  })

  it("the response of wireguard-go gives the keys of its ping and of its answer", () => {
    assert.isTrue(hasValidMac1(local, response))
    const keys = readResponse(local, written.sent, response)!
    const ends = { localIndex: 0x01020304, remoteIndex: response.readUInt32LE(4), isInitiator: true }
    const session = new Session(0, keys, ends)
    assert.strictEqual(session.seal(ping).toString("hex"), sealedPing.toString("hex"))
    const received = Buffer.from(reply)
    assert.strictEqual(session.open(0, received), "newest")
    assert.strictEqual(received.toString("hex", 16, 16 + packet.length), packet.toString("hex"))
    assert.strictEqual(session.open(0, Buffer.from(reply)), "replayed")
  })

  it("a response with any changed byte gives no keys", () => {
    for (let at = 12; at < 60; at += 1) {
      const changed = Buffer.from(response)
      changed[at]! ^= 0x40
      assert.isUndefined(readResponse(local, written.sent, changed), `byte ${at}`)
    }
  })
})

describe("as the responder", () => {
  const initiation = hex(
    "01000000895991285aec0f397f90f02607b26fa5a4c958c141a33e2b5a71ea67cfb0012e75afe05f7a60a17a65ca177a" +
      "4fcf63113e097d264e274ed1f0795943cbb22f787ffd36ae082c6d514ab1cacdf85298b6cbf360771b7fb11191abd3fc" +
      "02578d2e0bb0f46a0dc392774a169fb8140e685b98d42fc12da41d518c2e6bd17a744c0c000000000000000000000000" +
      "00000000"
  )
  const response = hex(
    "020000000d0c0b0a895991280faa684ed28867b97f4a6a2dee5df8ce974e76b7018e3f22a1c4cf2678570f203c30803b" +
      "ed2d73e2619c17c3eb1eef4ef1adbf55a6642fa2cf9291790f8b37ff00000000000000000000000000000000"
  )
  const data = hex(
    "040000000d0c0b0a00000000000000001d891c6ede080131c09d277c3a73bbb2eaa2d14455c9e498a5f1d5ba8ab60c23" +
      "915ab598393b20a53da8d869d60df0d4045ca804a99cf1061cff3b46725d73fd"
  )
  const packet = hex("4500002c499f40004011dc590a6300010a6300021b591b580018622e636f6e74726f6c20646174616772616d")

  const identified = readInitiation(local, initiation)!
  const read = readTimestamp(remote, identified, initiation)!

  it("the initiation of wireguard-go shows its public key and its timestamp", () => {
    assert.isTrue(hasValidMac1(local, initiation))
    assert.strictEqual(identified.publicKey.toString("hex"), remote.publicKey.toString("hex"))
    assert.strictEqual(read.timestamp.toString("hex"), "400000006b0ee03239000000")
  })

  it("the response is the one that wireguard-go has accepted, and opens its data", () => {
    const seed = Buffer.alloc(32, 0x22)
    const written = writeResponse(remote, read.received, { localIndex: 0x0a0b0c0d, seed })!
    assert.strictEqual(withMacs(written.message).toString("hex"), response.toString("hex"))
    const ends = { localIndex: 0x0a0b0c0d, remoteIndex: initiation.readUInt32LE(4), isInitiator: false }
    const received = Buffer.from(data)
    assert.strictEqual(new Session(0, written.keys, ends).open(0, received), "newest")
    assert.strictEqual(received.toString("hex", 16, 16 + packet.length), packet.toString("hex"))
  })

  it("an initiation with any changed byte shows no peer or no timestamp", () => {
    for (let at = 8; at < 116; at += 1) {
      const changed = Buffer.from(initiation)
      changed[at]! ^= 0x40
      const identity = readInitiation(local, changed)
      assert.isUndefined(identity && readTimestamp(remote, identity, changed), `byte ${at}`)
    }
  })
})
