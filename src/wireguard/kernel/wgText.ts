/** Texts for and from `wg`, `ip -batch` and `nft`. Pure. */
import type { PeerConfig, PeerStats } from "#wireguard/Device.ts"

/** The interface's part of `wg setconf`. */
export const interfaceText = (privateKey: string, listenPort: number): string =>
  `[Interface]\nPrivateKey = ${privateKey}\nListenPort = ${listenPort}\n`

/** Peers for `wg addconf`, which leaves all other peers alone. */
export const peersText = (peers: ReadonlyArray<PeerConfig>): string =>
  peers.map(({ address, endpoint, keepaliveSeconds, publicKey }) =>
    [
      "[Peer]",
      `PublicKey = ${publicKey}`,
      `AllowedIPs = ${address}/32`,
      ...endpoint === undefined
        ? []
        : [`Endpoint = ${endpoint.host.includes(":") ? `[${endpoint.host}]` : endpoint.host}:${endpoint.port}`],
      `PersistentKeepalive = ${keepaliveSeconds === 0 ? "off" : keepaliveSeconds}`,
      ""
    ].join("\n")
  ).join("\n")

/** Peers to set, peers to remove, and lines of `ip -batch`, from one configuration to the next. */
export interface PeerChanges {
  readonly set: ReadonlyArray<PeerConfig>
  /** Public keys. */
  readonly removed: ReadonlyArray<string>
  readonly batch: ReadonlyArray<string>
}

/** A peer that has not changed is in no list, so that its session and its learned endpoint stay. */
export const peerChanges = (
  name: string,
  before: ReadonlyMap<string, PeerConfig>,
  after: ReadonlyMap<string, PeerConfig>
): PeerChanges => {
  const set = [...after.values()].filter((peer) => JSON.stringify(before.get(peer.publicKey)) !== JSON.stringify(peer))
  const removed = [...before.keys()].filter((publicKey) => !after.has(publicKey))
  const addresses = (peers: ReadonlyMap<string, PeerConfig>) =>
    new Set([...peers.values()].map(({ localAddress }) => localAddress))
  const routes = (peers: ReadonlyMap<string, PeerConfig>) =>
    new Map([...peers.values()].map(({ address, localAddress }) => [address, localAddress]))
  const [oldAddresses, newAddresses] = [addresses(before), addresses(after)]
  const [oldRoutes, newRoutes] = [routes(before), routes(after)]
  return {
    set,
    removed,
    batch: [
      ...[...oldRoutes.keys()].filter((to) => !newRoutes.has(to)).map((to) => `route del ${to}/32 dev ${name}`),
      ...[...oldAddresses].filter((one) => !newAddresses.has(one)).map((one) => `addr del ${one}/32 dev ${name}`),
      ...[...newAddresses].filter((one) => !oldAddresses.has(one)).map((one) => `addr add ${one}/32 dev ${name}`),
      ...[...newRoutes].filter(([to, from]) => oldRoutes.get(to) !== from)
        .map(([to, from]) => `route replace ${to}/32 dev ${name} src ${from}`)
    ]
  }
}

/** Rules that open only these ports of the interface, and forward nothing through it. Replaces the table at once. */
export const rulesText = (name: string, tcp: ReadonlyArray<number>, udp: ReadonlyArray<number>): string => {
  const open = (protocol: string, ports: ReadonlyArray<number>) =>
    ports.length === 0 ? "" : `    iifname "${name}" ${protocol} dport { ${ports.join(", ")} } accept\n`
  return `add table inet ${name}
delete table inet ${name}
table inet ${name} {
  chain input {
    type filter hook input priority -5; policy accept;
    iifname "${name}" ct state established,related accept
${open("tcp", tcp)}${open("udp", udp)}    iifname "${name}" meta l4proto icmp accept
    iifname "${name}" drop
  }
  chain forward {
    type filter hook forward priority -5; policy accept;
    iifname "${name}" drop
    oifname "${name}" drop
  }
}
`
}

/** The peers in the output of `wg show NAME dump`, whose first line is the interface. */
export const parseDump = (text: string, peers: ReadonlyMap<string, PeerConfig>): ReadonlyArray<PeerStats> =>
  text.trim().split("\n").slice(1).flatMap((line) => {
    const [publicKey = "", , endpoint = "", , handshake = "0", received = "0", sent = "0"] = line.split("\t")
    const peer = peers.get(publicKey)
    if (peer === undefined) return []
    const [, bracketed, plain, port] = /^(?:\[([^\]]+)\]|([^:]+)):(\d+)$/u.exec(endpoint) ?? []
    const host = bracketed ?? plain
    return [{
      publicKey,
      address: peer.address,
      lastHandshakeAt: handshake === "0" ? undefined : Number(handshake) * 1_000,
      receivedBytes: Number(received),
      sentBytes: Number(sent),
      endpoint: host === undefined ? undefined : { host, port: Number(port) }
    }]
  })
