/** By which names a server that listens on loopback may be called: see DNS rebinding. */
import { isIP } from "node:net"

/** `127.0.0.1`, `::1`, `localhost`: an address that only this machine reaches. */
export const isLoopback = (host: string): boolean =>
  isLocalName(host) || host === "::1" || (isIP(host) === 4 && host.startsWith("127."))

/** Whether the Host header names this machine from within, or as it was configured. */
export const isNameOf = (configured: string, header: string | undefined): boolean => {
  const url = URL.parse(`http://${header ?? ""}/`)
  if (header === undefined || url === null) return false
  const name = url.hostname.replace(/^\[|\]$/gu, "")
  return name === configured.toLowerCase() || isLoopback(name)
}

/** RFC 6761 section 6.3. */
function isLocalName(host: string): boolean {
  return /^(?:.+\.)?localhost$/iu.test(host)
}
