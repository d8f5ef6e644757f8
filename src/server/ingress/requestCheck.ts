/** Checks every request of both ports: ambiguous framing, Host, Origin and encryption. Pure. */
import { addressMatcher, isLoopback, type SettingsValues } from "#server/Settings.ts"
import type { IncomingMessage } from "node:http"
import type { Socket } from "node:net"
import { TLSSocket } from "node:tls"
import { remoteOf } from "./proxyHeaderPhase.ts"
import { nonCanonicalReason } from "./canonicalPath.ts"
import { isAllowedHost, isSameOrigin } from "./hostAndOrigin.ts"
import { isLocalSocket, localAddress } from "./localSockets.ts"
import { callerOf } from "./caller.ts"

/** Properties of a request that the check reads. */
export type RequestHead =
  & Pick<IncomingMessage, "headers" | "rawHeaders" | "httpVersion">
  & {
    readonly socket: Pick<Socket, "remoteAddress" | "remotePort" | "localAddress" | "localPort">
    readonly method?: string | undefined
    readonly url?: string | undefined
  }

export type RequestVerdict =
  /** `address` is the IP address of the caller, or `socket` for the Unix socket. `isLocal`: the caller is on this machine. */
  | { readonly _tag: "Allowed"; readonly address: string; readonly isLocal: boolean }
  | { readonly _tag: "Rejected"; readonly status: 400 | 403 | 404 | 421; readonly reason: string }

/** Returns the check of one port: `ws` for upgrades of agents and gateways, `api` for requests of operators. */
export const makeRequestCheck = (
  port: "ws" | "api",
  { allowedHosts, allowedOrigins, apiHost, requireTls, trustedProxies }: SettingsValues
) => {
  const isTrusted = addressMatcher(trustedProxies)

  return (request: RequestHead): RequestVerdict => {
    const ambiguity = ambiguityOf(request)
    if (ambiguity !== undefined) return rejected(400, ambiguity)
    const { headers, socket } = request
    // Upgrades are not routed by path, so that clients may use any path.
    const nonCanonical = port === "api" ? nonCanonicalReason(request.url ?? "") : undefined
    const routed = (address: string, isLocal: boolean): RequestVerdict =>
      nonCanonical === undefined
        ? { _tag: "Allowed", address, isLocal }
        : rejected(404, `the path has ${nonCanonical}`)
    // No web page and no proxy reaches the Unix socket, and nothing leaves this machine.
    if (isLocalSocket(socket)) return routed(localAddress, true)
    const caller = callerOf({
      remote: remoteOf(socket),
      isTls: socket instanceof TLSSocket,
      isForwarded: port === "ws" || !isAllowedHost(headers.host, "127.0.0.1", []) ||
        Object.keys(headers).some((name) => forwardingHeader.test(name)),
      forwardedFor: joinHeader(headers["x-forwarded-for"]),
      forwardedProto: joinHeader(headers["x-forwarded-proto"])
    }, isTrusted)
    if (port === "api" && !isAllowedHost(headers.host, apiHost, allowedHosts))
      return rejected(421, "unknown Host; add it to CONTROL_ALLOWED_HOSTS")
    // Agents and gateways are not web pages, so the WebSocket port has no own Origin.
    const { origin } = headers
    const isOwnPage = port === "api" && isSameOrigin(origin ?? "", headers.host, caller.encrypted === "yes")
    if (origin !== undefined && !isOwnPage && !allowedOrigins.includes(origin))
      return rejected(403, "web pages of this Origin are not allowed; add it to CONTROL_ALLOWED_ORIGINS")
    if (requireTls && caller.encrypted === "no" && !isHealthOrMetrics(port, request))
      return rejected(
        403,
        "encryption required; use TLS, or a trusted proxy that sends X-Forwarded-Proto: https"
      )
    return routed(caller.address, isLoopback(caller.address))
  }
}

/**
 * Protection against request smuggling: what Node's parser accepts, but a proxy might read differently (RFC 9112 sections
 * 3.2 and 6.1).
 */
function ambiguityOf({ headers, httpVersion, method, rawHeaders, url = "" }: RequestHead): string | undefined {
  if (rawHeaders.filter((text, index) => index % 2 === 0 && /^host$/iu.test(text)).length > 1)
    return "more than one Host header"
  if (!url.startsWith("/") && !(method === "OPTIONS" && url === "*")) return "the request target must be a path"
  const encoding = headers["transfer-encoding"]
  if (encoding !== undefined && (encoding.toLowerCase() !== "chunked" || httpVersion !== "1.1"))
    return "the only supported Transfer-Encoding is chunked"
  return undefined
}

/** These requests carry no token and their responses no secret. Most come from the same machine or cluster. */
function isHealthOrMetrics(port: "ws" | "api", { url }: RequestHead): boolean {
  return port === "api" && /^\/(?:healthz|readyz|metrics)(?:\?|$)/u.test(url ?? "")
}

/** Headers that proxies add. A program on the same machine sends none of them and a loopback Host. */
const forwardingHeader = /^(?:x-forwarded-.*|x-real-ip|forwarded|via)$/u

const joinHeader = (header: string | Array<string> | undefined): string | undefined =>
  Array.isArray(header) ? header.join(",") : header

function rejected(status: 400 | 403 | 404 | 421, reason: string): RequestVerdict {
  return { _tag: "Rejected", status, reason }
}
