/** Parsers of bytes from strangers, as targets of `fuzzParsers`. */
import { readClientHello } from "#gateway/front/clientHello.ts"
import { parseHeader } from "#proxyProtocol/parseHeader.ts"
import { clientHello, mutateBytes, mutateHello } from "#support/clientHellos.ts"
import { v1, v1Unknown, v2, v2Local } from "#support/proxyHeaders.ts"
import { seededRandom } from "#support/SeededRandom.ts"
import { isDeepStrictEqual } from "node:util"
import { IpPackets } from "./ipPackets.ts"

export interface ParserTarget {
  readonly name: string
  /** Makes the input of an index. */
  readonly inputs: (seed: number, index: number) => Buffer
  /** Parses an input. Returns the kind of its result, or throws an error that describes the fault. */
  readonly check: (input: Buffer, index: number) => string
}

/** A ClientHello that a parser has accepted or rejected early stays so with more bytes. */
const clientHellos = async (): Promise<ParserTarget> => {
  const hellos = await Promise.all([
    clientHello({ servername: "app.example.com", ALPNProtocols: ["h2", "http/1.1"] }),
    clientHello({ servername: "a.example.com", maxVersion: "TLSv1.2" }),
    clientHello({ servername: "q.example.com", ecdhCurve: "X25519MLKEM768:X25519" }),
    clientHello({})
  ])
  return {
    name: "ClientHello",
    inputs: (seed, index) => mutateHello(hellos, seed, index),
    check: (input, index) => sameInPieces(readClientHello, input, index)
  }
}

const proxyHeaders = (): ParserTarget => {
  const client = { address: "203.0.113.7", port: 4_711 }
  const client6 = { address: "2001:db8::7", port: 4_711 }
  const headers = [v1(client), v1(client6), v2(client), v2(client6, Buffer.alloc(20, 1)), v1Unknown, v2Local]
  return {
    name: "PROXY header",
    inputs: (seed, index) => {
      const random = seededRandom(seed, index)
      return mutateBytes(Buffer.concat([random.pick(headers), Buffer.from("GET / HTTP/1.1\r\n")]), random)
    },
    check: (input, index) => sameInPieces(parseHeader, input, index)
  }
}

const ipPackets = (): ParserTarget => {
  const packets = new IpPackets()
  return {
    name: "IPv4 packet",
    inputs: (seed, index) => packets.input(seed, index),
    check: (input) => packets.check(input)
  }
}

export const parserTargets = async (): Promise<ReadonlyArray<ParserTarget>> => [
  await clientHellos(),
  proxyHeaders(),
  ipPackets()
]

function sameInPieces(parse: (bytes: Buffer) => { readonly _tag: string }, input: Buffer, index: number): string {
  const whole = parse(input)
  const early = parse(input.subarray(0, index % (input.length + 1)))
  if (early._tag !== "Incomplete" && !isDeepStrictEqual(early, whole))
    throw new Error(`${early._tag} after a part of the bytes, ${whole._tag} after all of them`)
  return whole._tag
}
