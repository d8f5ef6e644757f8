/** Access log entries as text: JSON lines and the combined format of Apache. */
import { timeText } from "#processes/clock.ts"

/** One request. Paths and referers have no query, because queries can hold secrets. */
export interface AccessLogEntry {
  /** End of the request, in milliseconds since 1970. */
  readonly time: number
  /** IP address of the visitor. */
  readonly visitor: string
  /** Host name; "" if the request has no valid one. */
  readonly host: string
  readonly method: string
  readonly path: string
  /** `HTTP/1.0`, `HTTP/1.1` or `HTTP/2.0`. */
  readonly protocol: string
  /** Status sent to the visitor; 499 if the visitor aborted before it. */
  readonly status: number
  /** Bytes of the request body and of the response body; of both directions for an upgraded connection. */
  readonly receivedBytes: number
  readonly sentBytes: number
  readonly durationMillis: number
  readonly tunnelId: string | undefined
  readonly referer: string | undefined
  readonly userAgent: string | undefined
}

export const withoutQuery = (target: string): string => {
  const end = target.search(/[?#]/u)
  return end === -1 ? target : target.slice(0, end)
}

/** A JSON object in one line, with an RFC 3339 time. */
export const jsonLine = ({ durationMillis, time, ...entry }: AccessLogEntry): string =>
  JSON.stringify({ time: timeText(time), ...entry, durationMillis: Math.round(durationMillis * 1_000) / 1_000 })

/** Apache's `combined` format. The identity and the user are always `-`, and so is an unknown value. */
export const combinedLine = (entry: AccessLogEntry): string => {
  const { method, path, protocol, referer, sentBytes, status, time, userAgent, visitor } = entry
  const request = quoted(`${method} ${path} ${protocol}`)
  return `${visitor} - - [${apacheTime(time)}] ${request} ${status} ${sentBytes === 0 ? "-" : sentBytes} ${
    quoted(referer)
  } ${quoted(userAgent)}`
}

const months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]

/** `10/Oct/2000:13:55:36 +0000`. */
function apacheTime(millis: number): string {
  const text = timeText(millis)
  return `${text.slice(8, 10)}/${months[Number(text.slice(5, 7)) - 1]}/${text.slice(0, 4)}:${text.slice(11, 19)} +0000`
}

/** Quotes, backslashes and bytes outside of printable ASCII are escaped, so that a visitor cannot forge lines. */
function quoted(text: string | undefined): string {
  if (text === undefined || text === "") return `"-"`
  const escaped = text.replaceAll(
    /["\\]|[^\x20-\x7e]/gu,
    (char) =>
      char === "\"" || char === "\\"
        ? `\\${char}`
        : [...Buffer.from(char)].map((byte) => `\\x${byte.toString(16).padStart(2, "0")}`).join("")
  )
  return `"${escaped}"`
}
