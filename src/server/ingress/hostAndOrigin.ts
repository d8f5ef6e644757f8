/** Checks Host and Origin headers: protection against DNS rebinding and cross-site requests. */
import { isLoopback } from "#server/Settings.ts"
import { ipVersion } from "#schema/addresses.ts"

/**
 * Whether a Host header names this server: a loopback name, the listening host, or an allowed host. Without this check a
 * page whose DNS name points here (DNS rebinding) would have the same origin as the API. IP addresses cannot be rebound,
 * so they are allowed too, unless the server listens on loopback only.
 */
export const isAllowedHost = (header: string | undefined, host: string, allowed: ReadonlyArray<string>): boolean => {
  const url = URL.parse(`http://${header ?? ""}/`)
  if (header === undefined || url === null || url.username !== "" || url.pathname !== "/") return false
  const name = url.hostname.replace(/^\[|\]$/gu, "")
  return isLoopback(name) || name === host.toLowerCase() || allowed.includes(name) ||
    (ipVersion(name) !== 0 && !isLoopback(host))
}

/**
 * Whether the page's origin is the origin of the request. An unknown proxy may add or remove TLS, so a plaintext request
 * may come from a page of either scheme. An encrypted request must come from an https page.
 */
export const isSameOrigin = (origin: string, host: string | undefined, isEncrypted: boolean): boolean => {
  const page = URL.parse(origin)
  if (page === null || (isEncrypted && page.protocol !== "https:")) return false
  return page.origin === origin.toLowerCase() && page.host === URL.parse(`${page.protocol}//${host ?? ""}/`)?.host
}
