/** What both ports ask of every request before anything else is looked at: decided from the request and the settings alone. */
import { type SettingsValues, within } from "#server/Settings.ts"
import type { IncomingMessage } from "node:http"
import type { Socket } from "node:net"
import { TLSSocket } from "node:tls"
import { remoteOf } from "./headerPhase.ts"
import { isOurName, isSameOrigin } from "./hosts.ts"
import { peerOf } from "./peer.ts"

/** What is looked at of a request, whichever version of HTTP it came by. */
export type Asked =
  & Pick<IncomingMessage, "headers" | "rawHeaders" | "httpVersion">
  & {
    readonly socket: Pick<Socket, "remoteAddress" | "remotePort" | "localAddress" | "localPort">
    readonly method?: string | undefined
    readonly url?: string | undefined
  }

export type Admission =
  | { readonly _tag: "Admitted"; readonly address: string }
  | { readonly _tag: "Refused"; readonly status: 400 | 403 | 421; readonly reason: string }

/** Judges the requests of one port: upgrades of agents and gateways, or the API's. */
export const makeAdmission = (
  port: "ws" | "api",
  { allowedHosts, allowedOrigins, apiHost, requireTls, trustedProxies }: SettingsValues
) => {
  const isTrusted = within(trustedProxies)

  return (request: Asked): Admission => {
    const ambiguity = ambiguityOf(request)
    if (ambiguity !== undefined) return refused(400, ambiguity)
    const { headers, socket } = request
    const peer = peerOf({
      remote: remoteOf(socket),
      encrypted: socket instanceof TLSSocket,
      isForwarded: port === "ws" || !isOurName(headers.host, "127.0.0.1", []) ||
        Object.keys(headers).some((name) => forwarding.test(name)),
      forwardedFor: joined(headers["x-forwarded-for"]),
      forwardedProto: joined(headers["x-forwarded-proto"])
    }, isTrusted)
    if (port === "api" && !isOurName(headers.host, apiHost, allowedHosts))
      return refused(421, "this server does not go by that name: CONTROL_ALLOWED_HOSTS lists those that it has")
    // Agents and gateways are no web pages, so a browser has no business at their port.
    const { origin } = headers
    const isOwnPage = port === "api" && isSameOrigin(origin ?? "", headers.host, peer.encrypted === "yes")
    if (origin !== undefined && !isOwnPage && !allowedOrigins.includes(origin))
      return refused(403, "web pages of that origin may not ask: CONTROL_ALLOWED_ORIGINS lists those that may")
    if (requireTls && peer.encrypted === "no" && !isForSupervisors(port, request))
      return refused(
        403,
        "only encrypted connections are served: use TLS, or a proxy that says X-Forwarded-Proto: https"
      )
    return { _tag: "Admitted", address: peer.address }
  }
}

/** What Node's parser lets through, and two servers in a row might read differently (RFC 9112 sections 3.2 and 6.1). */
function ambiguityOf({ headers, httpVersion, method, rawHeaders, url = "" }: Asked): string | undefined {
  if (rawHeaders.filter((text, index) => index % 2 === 0 && /^host$/iu.test(text)).length > 1)
    return "there is more than one Host"
  if (!url.startsWith("/") && !(method === "OPTIONS" && url === "*")) return "the target of a request must be a path"
  const encoding = headers["transfer-encoding"]
  if (encoding !== undefined && (encoding.toLowerCase() !== "chunked" || httpVersion !== "1.1"))
    return "the one Transfer-Encoding that is read is chunked"
  return undefined
}

/** They carry no token, are told nothing secret, and most often come from beside this process. */
function isForSupervisors(port: "ws" | "api", { url }: Asked): boolean {
  return port === "api" && /^\/(?:healthz|readyz|metrics)(?:\?|$)/u.test(url ?? "")
}

/** What proxies add, whichever they are. Only the API is asked by `control`, which calls this machine by its own name. */
const forwarding = /^(?:x-forwarded-.*|x-real-ip|forwarded|via)$/u

const joined = (header: string | Array<string> | undefined): string | undefined =>
  Array.isArray(header) ? header.join(",") : header

function refused(status: 400 | 403 | 421, reason: string): Admission {
  return { _tag: "Refused", status, reason }
}
