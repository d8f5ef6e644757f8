/** By which names this server may be called, and which web pages may call it: against DNS rebinding and forged requests. */
import { isLoopback } from "#server/Settings.ts"
import { isIP } from "node:net"

/**
 * Whether a Host header names this server. A page whose name was made to point here would else be let in by its browser
 * as the same origin; an address cannot be made to point anywhere, but one that is not of this machine has no business
 * where only this machine is listened to.
 */
export const isOurName = (header: string | undefined, host: string, allowed: ReadonlyArray<string>): boolean => {
  const url = URL.parse(`http://${header ?? ""}/`)
  if (header === undefined || url === null || url.username !== "" || url.pathname !== "/") return false
  const name = url.hostname.replace(/^\[|\]$/gu, "")
  return isLoopback(name) || name === host.toLowerCase() || allowed.includes(name) ||
    (isIP(name) !== 0 && !isLoopback(host))
}

/**
 * Whether a page is of the origin that it calls. A proxy that nobody has told us of may have added or taken off TLS: then
 * the scheme is not ours to judge, and who encrypts is not called by pages that came in plaintext.
 */
export const isSameOrigin = (origin: string, host: string | undefined, isEncrypted: boolean): boolean => {
  const page = URL.parse(origin)
  if (page === null || (isEncrypted && page.protocol !== "https:")) return false
  return page.origin === origin.toLowerCase() && page.host === URL.parse(`${page.protocol}//${host ?? ""}/`)?.host
}
