/** Two userspace devices on the loopback interface, each a peer of the other. */
import type { Clock } from "#processes/clock.ts"
import { systemClock } from "#processes/clock.ts"
import type { Device, IncomingConnection, PeerConfig, TunnelSocket } from "#wireguard/Device.ts"
import { openUserspaceDevice } from "#wireguard/userspace/UserspaceDevice.ts"
import { once } from "node:events"
import { createHash, generateKeyPairSync } from "node:crypto"
import type { Readable } from "node:stream"

export const leftAddress = "10.64.0.1"
export const rightAddress = "10.64.0.2"

export interface KeyPair {
  readonly privateKey: string
  readonly publicKey: string
}

export const keyPair = (): KeyPair => {
  const { privateKey, publicKey } = generateKeyPairSync("x25519")
  const raw = (key: Buffer) => key.subarray(-32).toString("base64")
  return {
    privateKey: raw(privateKey.export({ format: "der", type: "pkcs8" })),
    publicKey: raw(publicKey.export({ format: "der", type: "spki" }))
  }
}

export class DevicePair implements AsyncDisposable {
  readonly left: Device
  readonly right: Device
  readonly leftKeys: KeyPair
  readonly rightKeys: KeyPair

  private constructor(left: Device, right: Device, leftKeys: KeyPair, rightKeys: KeyPair) {
    this.left = left
    this.right = right
    this.leftKeys = leftKeys
    this.rightKeys = rightKeys
  }

  /** `clock`: of the left device. */
  static async open(clock: Clock = systemClock): Promise<DevicePair> {
    const [leftKeys, rightKeys] = [keyPair(), keyPair()]
    const open = ({ privateKey }: KeyPair, ofDevice: Clock) =>
      openUserspaceDevice({ privateKey, listenPort: 0, mtu: 1_280, clock: ofDevice })
    const pair = new DevicePair(await open(leftKeys, clock), await open(rightKeys, systemClock), leftKeys, rightKeys)
    await pair.left.configure([pair.rightPeer])
    await pair.right.configure([pair.leftPeer])
    return pair
  }

  /** The right device as a peer of the left one. */
  get rightPeer(): PeerConfig {
    return {
      publicKey: this.rightKeys.publicKey,
      address: rightAddress,
      localAddress: leftAddress,
      endpoint: { host: "127.0.0.1", port: this.right.listenPort },
      keepaliveSeconds: 0
    }
  }

  get leftPeer(): PeerConfig {
    return {
      publicKey: this.leftKeys.publicKey,
      address: leftAddress,
      localAddress: rightAddress,
      endpoint: undefined,
      keepaliveSeconds: 0
    }
  }

  /** Connects from left to right. Resolves with both ends, which allow half-open connections. */
  async connect(port: number): Promise<readonly [client: TunnelSocket, server: TunnelSocket]> {
    const accepted = new Promise<TunnelSocket>((resolve, reject) => {
      this.right.listen(port, (incoming) => resolve(halfOpen(incoming.accept()))).then(
        (stop) => stops.push(stop),
        reject
      )
    })
    const stops: Array<() => void> = []
    const client = halfOpen(this.dial(port))
    const server = await accepted
    await once(client, "connect")
    for (const stop of stops) stop()
    return [client, server]
  }

  dial(port: number, address = rightAddress, timeoutMillis = 10_000): TunnelSocket {
    return this.left.connect({ address, port, timeoutMillis }).on("error", () => {})
  }

  /** Sends everything back that arrives, with half-close. */
  async serveEcho(port: number): Promise<() => void> {
    return await this.right.listen(port, (incoming: IncomingConnection) => {
      const socket = halfOpen(incoming.accept())
      socket.on("error", () => {})
      socket.pipe(socket)
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.left.close()
    await this.right.close()
  }
}

/** Allows half-open connections. Tests that do not look at errors ignore those of the end of the test. */
export const halfOpen = (socket: TunnelSocket): TunnelSocket => {
  socket.on("error", () => {})
  socket.allowHalfOpen = true
  return socket
}

/** Reads a stream to its end. */
export const digest = async (stream: Readable): Promise<string> => {
  const hash = createHash("sha256")
  for await (const chunk of stream) hash.update(chunk as Buffer)
  return hash.digest("hex")
}

/** The `code` of the error of a socket, and then its `close`. */
export const failure = async (socket: TunnelSocket): Promise<string | undefined> => {
  const closed = once(socket, "close").catch(() => undefined)
  const [error] = await new Promise<ReadonlyArray<NodeJS.ErrnoException | undefined>>((resolve) => {
    socket.once("error", (...fault: ReadonlyArray<NodeJS.ErrnoException>) => resolve(fault))
    socket.once("close", () => resolve([]))
  })
  await closed
  return error?.code
}
