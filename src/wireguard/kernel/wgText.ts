/** Texts for and from `wg`, `ip -batch` and `nft`. Pure. */
import type { Endpoint, PeerConfig, PeerStats } from "#wireguard/Device.ts"

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
      ...endpoint === undefined ? [] : [`Endpoint = ${endpointText(endpoint)}`],
      `PersistentKeepalive = ${keepaliveSeconds === 0 ? "off" : keepaliveSeconds}`,
      ""
    ].join("\n")
  ).join("\n")

/** The peers of an interface, as far as they are known. */
export interface InterfacePeers {
  readonly known: ReadonlyArray<PeerConfig>
  /** Peers of changes that have failed half-way: the interface has all, some or none of them. */
  readonly uncertain: ReadonlyArray<PeerConfig>
}

/** The commands that lead from one configuration to the next. Running them twice does no harm. */
export interface PeerChanges {
  /** For `wg addconf`. Without an endpoint, the interface keeps the one that it has learned. */
  readonly set: ReadonlyArray<PeerConfig>
  /** Public keys. */
  readonly removed: ReadonlyArray<string>
  /** Lines of `ip -batch` that remove what can be missing already. */
  readonly deletions: ReadonlyArray<string>
  /** Lines of `ip -batch`. */
  readonly additions: ReadonlyArray<string>
}

/** A peer that has not changed is in no list, so that its session and its learned endpoint stay. */
export const peerChanges = (
  name: string,
  { known, uncertain }: InterfacePeers,
  after: ReadonlyArray<PeerConfig>
): PeerChanges => {
  const isCertain = uncertain.length === 0
  const before = isCertain ? new Map(known.map((peer) => [peer.publicKey, peer])) : new Map<string, PeerConfig>()
  const possible = [...known, ...uncertain]
  const set = after.flatMap((peer) => {
    const old = before.get(peer.publicKey)
    if (old === undefined) return [peer]
    const isSameEndpoint = endpointText(old.endpoint) === endpointText(peer.endpoint)
    if (isSameEndpoint && old.address === peer.address && old.keepaliveSeconds === peer.keepaliveSeconds) return []
    return [isSameEndpoint ? { ...peer, endpoint: undefined } : peer]
  })
  const keys = new Set(after.map(({ publicKey }) => publicKey))
  const addresses = new Set(after.map(({ localAddress }) => localAddress))
  const routes = new Map(after.map(({ address, localAddress }) => [address, localAddress]))
  const oldAddresses = new Set(Array.from(before.values(), ({ localAddress }) => localAddress))
  const oldRoutes = new Map(Array.from(before.values(), ({ address, localAddress }) => [address, localAddress]))
  const unique = (texts: ReadonlyArray<string>) => [...new Set(texts)]
  return {
    set,
    removed: unique(possible.map(({ publicKey }) => publicKey)).filter((key) => !keys.has(key)),
    deletions: [
      ...unique(possible.map(({ address }) => address)).filter((to) => !routes.has(to))
        .map((to) => `route del ${to}/32 dev ${name}`),
      ...unique(possible.map(({ localAddress }) => localAddress)).filter((one) => !addresses.has(one))
        .map((one) => `addr del ${one}/32 dev ${name}`)
    ],
    additions: [
      ...[...addresses].filter((one) => !oldAddresses.has(one)).map((one) => `addr replace ${one}/32 dev ${name}`),
      ...[...routes].filter(([to, from]) => oldRoutes.get(to) !== from)
        .map(([to, from]) => `route replace ${to}/32 dev ${name} src ${from}`)
    ]
  }
}

/** `host:port`, IPv6 in brackets; empty without an endpoint. */
export const endpointText = (endpoint: Endpoint | undefined): string =>
  endpoint === undefined
    ? ""
    : `${endpoint.host.includes(":") ? `[${endpoint.host}]` : endpoint.host}:${endpoint.port}`

/** Ports that are open to peers, and the peers' addresses. */
export interface OpenPorts {
  readonly tcp: ReadonlyArray<number>
  readonly udp: ReadonlyArray<number>
  readonly peers: ReadonlyArray<string>
}

/**
 * Rules for `nft -f`, which replaces the table at once. They open only these ports of the interface and forward nothing through it.
 * Packets of a peer's address that did not come through its tunnel are forged.
 */
export const rulesText = (name: string, { peers, tcp, udp }: OpenPorts): string => {
  const line = (before: string, values: ReadonlyArray<number | string>, verdict: string) =>
    values.length === 0 ? "" : `    ${before} { ${values.join(", ")} } ${verdict}\n`
  return `add table inet ${name}
delete table inet ${name}
table inet ${name} {
  chain input {
    type filter hook input priority -5; policy accept;
${
    line(`iifname != { "lo", "${name}" } ip saddr`, peers, "drop")
  }    iifname "${name}" ct state established,related accept
${line(`iifname "${name}" tcp dport`, tcp, "accept")}${
    line(`iifname "${name}" udp dport`, udp, "accept")
  }    iifname "${name}" meta l4proto icmp accept
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
