/** Decides where a request goes: to a service, to another address, or back with an answer of the gateway. Pure. */
import type { Route, Routes } from "#gateway/Route.ts"
import type { SecureContext } from "node:tls"
import { type FrontError, frontErrors } from "./errorPages.ts"
import type { RequestHead } from "./requestHead.ts"

/** A visitor's connection, as all of its requests share it. */
export interface VisitorConnection {
  /** IP address of the visitor, or of the trusted proxy that forwards its requests. */
  readonly address: string
  readonly scheme: "http" | "https"
  /** SNI and the certificate of the TLS handshake. */
  readonly serverName: string
  readonly context: SecureContext | undefined
  readonly isTrusted: boolean
}

export interface DecisionOptions {
  readonly routes: Routes
  readonly secureContext: (serverName: string) => SecureContext | undefined
  readonly publicHttpsPort: number
  readonly acme: (hostName: string, path: string) => string | undefined
}

export type Decision =
  | { readonly _tag: "Forward"; readonly route: Route }
  | { readonly _tag: "Redirect"; readonly location: string }
  | { readonly _tag: "Text"; readonly text: string }
  | { readonly _tag: "Reject"; readonly error: FrontError }

export const decideVisit = (head: RequestHead, connection: VisitorConnection, options: DecisionOptions): Decision => {
  const { hostName, method, target } = head
  const isPlain = connection.scheme === "http"
  if (isPlain && target.startsWith(challengePath)) {
    const text = options.acme(hostName, target)
    if (text !== undefined) return { _tag: "Text", text }
  }
  if (method === "TRACE") return reject(frontErrors.methodNotAllowed)
  if (!isPlain && !isCertificateOf(hostName, connection, options)) return reject(frontErrors.misdirected)
  const route = options.routes.find(hostName)
  if (route === undefined) return reject(frontErrors.unknownName)
  const isSecureAtProxy = connection.isTrusted && head.given.proto?.toLowerCase() === "https"
  const isHttps = route.protocol === "tls" || options.secureContext(hostName) !== undefined
  if (isPlain && isHttps && !isSecureAtProxy) {
    const port = options.publicHttpsPort === 443 ? "" : `:${options.publicHttpsPort}`
    return { _tag: "Redirect", location: `https://${hostName}${port}${target === "*" ? "/" : target}` }
  }
  return route.protocol === "http" ? { _tag: "Forward", route } : reject(frontErrors.unknownName)
}

const challengePath = "/.well-known/acme-challenge/"

/** Whether the TLS connection was opened for this name, or with the certificate of this name (RFC 9110, 7.4). */
function isCertificateOf(
  hostName: string,
  { context, serverName }: VisitorConnection,
  options: DecisionOptions
): boolean {
  return serverName === hostName || (context !== undefined && options.secureContext(hostName) === context)
}

function reject(error: FrontError): Decision {
  return { _tag: "Reject", error }
}
