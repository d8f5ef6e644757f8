/** Decides about a connection from its PROXY header. Pure. */
import { type ParsedHeader, parseHeader } from "#proxyProtocol/parseHeader.ts"

/** Decision about a connection, from its first bytes. */
export type Decision =
  | { readonly _tag: "Wait" }
  | { readonly _tag: "Reject"; readonly reason: string }
  /** `header` is undefined if none was sent and none was required. */
  | { readonly _tag: "Pass"; readonly header: Extract<ParsedHeader, { _tag: "Header" }> | undefined }

/**
 * Requires a header of trusted proxies, because otherwise a header that a client sends through the proxy would be believed.
 * Rejects headers of all other addresses.
 */
export const decide = (bytes: Buffer, isTrusted: boolean): Decision => {
  const parsed = parseHeader(bytes)
  if (parsed._tag === "Incomplete") return { _tag: "Wait" }
  if (parsed._tag === "Absent") {
    return isTrusted ?
      reject("the trusted proxy sent no PROXY header, which CONTROL_PROXY_PROTOCOL requires")
      : { _tag: "Pass", header: undefined }
  }
  if (!isTrusted) return reject("it sent a PROXY header, but its address is not in CONTROL_TRUSTED_PROXIES")
  return parsed._tag === "Header" ?
    { _tag: "Pass", header: parsed }
    : reject(`malformed PROXY header: ${parsed.reason}`)
}

function reject(reason: string): Decision {
  return { _tag: "Reject", reason }
}
