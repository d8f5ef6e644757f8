/** A public name or port of the gateway and the tunnel behind it. */
import type { TunnelSocket } from "#wireguard/Device.ts"

/** `http`: by Host and SNI. `tls`: by SNI, not decrypted. `tcp` and `udp`: by `listenPort`. */
export type TunnelProtocol = "http" | "tls" | "tcp" | "udp"

/** Cause of a tunnel that cannot be served, as reported to Control and shown to visitors. */
export type RouteProblem = "agent-unreachable" | "target-unreachable"

/** One enabled tunnel in the gateway's newest view. A change of its row makes a new object; other routes stay the same. */
export interface Route {
  readonly tunnelId: string
  /** Lower-case host name, with a leading `*.` for a wildcard; "" for a tcp or udp tunnel without a DNS name. */
  readonly domain: string
  readonly protocol: TunnelProtocol
  /** Public port of a tcp or udp tunnel; null for http and tls. */
  readonly listenPort: number | null
  /** Address and port of the tunnel inside the network. */
  readonly address: string
  readonly port: number
  /** How the service expects to be spoken to: `https` means TLS through the tunnel to the service's own certificate. */
  readonly scheme: "http" | "https"
  /** Whether the service's certificate is verified against the public name (`https` targets only). */
  readonly tls: "verify" | "insecure"
  /** Version of the PROXY header before the first byte (tcp and tls). */
  readonly proxyProtocol: "none" | "v1" | "v2"
  /** Opens a connection through the tunnel. */
  readonly connect: () => TunnelSocket
  /** Receives the outcome of each connection attempt to the service, which is how the tunnel's status follows the traffic. */
  readonly report: (outcome: "ok" | RouteProblem) => void
}

/** The routes of the newest view. Lookups are O(1). */
export interface Routes {
  /** The http or tls route of a lower-case host name without a port: the exact name, otherwise `*.` and the rest. */
  readonly find: (hostName: string) => Route | undefined
}

/** Cause of a failed connection through the tunnel. A rejected or reset connection was answered by the agent. */
export const routeProblem = (error: { readonly code?: string | undefined }): RouteProblem =>
  error.code === "ECONNREFUSED" || error.code === "ECONNRESET" || error.code === "EPIPE"
    ? "target-unreachable"
    : "agent-unreachable"
