/** Upgrades of HTTP/1.1 and the extended CONNECT of HTTP/2 (RFC 8441), both as an upgrade of HTTP/1.1 to the service. */
import { createHash } from "node:crypto"
import type { IncomingMessage } from "node:http"

export interface Upgrade {
  /** As in the `Upgrade` field. */
  readonly protocol: string
  readonly isExtendedConnect: boolean
  /** `Sec-WebSocket-Key` of the gateway, which replaces the missing one of an extended CONNECT. */
  readonly key: string | undefined
}

/** Protocols that would hide further requests from the gateway, or that end here. */
const refused = /^(?:h2c?|http|tls)(?:$|[/\s])/iu

/** The upgrade that a request of HTTP/1.1 asks for. Undefined for an ordinary request. */
export const http1Upgrade = (field: string | undefined, hasBody: boolean): Upgrade | undefined => {
  const protocol = field?.trim()
  if (protocol === undefined || hasBody || !token.test(protocol) || refused.test(protocol)) return undefined
  return { protocol, isExtendedConnect: false, key: undefined }
}

const token = /^[\w!#$%&'*+.^`|~-]+(?:\/[\w!#$%&'*+.^`|~-]+)?$/u

/** Fields of the upgrade request to the service. */
export const upgradeRequest = (fields: Array<string>, { key }: Upgrade): Array<string> =>
  key === undefined ? fields : [...withoutKey(fields), "Sec-WebSocket-Key", key]

/** Fields of the answer to the visitor; undefined if the service has answered to another request or protocol. */
export const upgradeAnswer = (
  response: IncomingMessage,
  fields: Array<string>,
  { isExtendedConnect, key, protocol }: Upgrade
): Array<string> | undefined => {
  const chosen = response.headers.upgrade ?? ""
  if (chosen.toLowerCase() !== protocol.toLowerCase()) return undefined
  if (!isExtendedConnect) return ["Connection", "Upgrade", "Upgrade", chosen, ...fields]
  return response.headers["sec-websocket-accept"] === acceptOf(key ?? "") ? withoutKey(fields) : undefined
}

function withoutKey(fields: ReadonlyArray<string>): Array<string> {
  const kept: Array<string> = []
  for (let at = 0; at < fields.length; at += 2) {
    if (!/^sec-websocket-(?:key|accept)$/iu.test(fields[at] as string))
      kept.push(fields[at] as string, fields[at + 1] as string)
  }
  return kept
}

/** RFC 6455, 4.2.2. */
function acceptOf(key: string): string {
  return createHash("sha1").update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest("base64")
}
