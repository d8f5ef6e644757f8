/** Lines that both kits support: frames sent by the kit, and expected frames and closes. */
import type { WebSocket } from "ws"
import { type Arrival, type Inbox, listen } from "./Inbox.ts"
import { type Captures, isObject, type Json, listOf, mismatch, substitute } from "./pattern.ts"
import { type Line, LineFailed, millisOf } from "./transcript.ts"

export interface Connection {
  readonly ws: WebSocket
  readonly inbox: Inbox<Arrival>
  /** Time of the last matched frame, or of the beginning of the connection. */
  lastFrameAt: number
}

export const connectionOf = (ws: WebSocket): Connection => ({ ws, inbox: listen(ws), lastFrameAt: performance.now() })

/** Sends the line's `frame`, `text` or `binary`, `repeat` times. */
export const send = (line: Line, { ws }: Connection, captures: Captures): void => {
  const { binary, frame, repeat, text } = line.fields
  for (let count = Number(repeat ?? 1); count > 0; count -= 1) {
    if (typeof binary === "string") ws.send(Buffer.from(binary))
    else if (typeof text === "string") ws.send(text)
    else ws.send(JSON.stringify(substitute(frame ?? null, captures)))
  }
}

/**
 * Waits for a frame that matches the line's `frame`. Other frames whose type is in `ignoredTypes` are ignored. With
 * `skipping`, every other frame is skipped, unless it matches a pattern in `never`.
 */
export const expectFrame = async (
  line: Line,
  connection: Connection,
  captures: Captures,
  passOver: ReadonlyArray<string>
): Promise<void> => {
  const { frame = "$any", never, notBefore, skipping, within } = line.fields
  const began = connection.lastFrameAt
  const deadline = performance.now() + millisOf(within, "5 seconds")
  while (true) {
    const arrival = await connection.inbox.next(deadline - performance.now())
    if (arrival === undefined)
      throw new LineFailed(line, `no matching frame arrived within ${String(within ?? "5 seconds")}`)
    if (arrival.kind !== "frame") throw new LineFailed(line, `received: ${describe(arrival)}`)
    const failure = mismatch(frame, arrival.frame, captures)
    if (failure === undefined) {
      rejectIfTooEarly(line, arrival.at - began, notBefore)
      connection.lastFrameAt = arrival.at
      return
    }
    if (passOver.includes(typeOf(arrival.frame))) continue
    const forbidden = listOf(never).find((pattern) => mismatch(pattern, arrival.frame, new Map(captures)) === undefined)
    if (skipping !== true || forbidden !== undefined)
      throw new LineFailed(line, `${failure}; received: ${describe(arrival)}`)
  }
}

/** Waits for a close with one of the codes. Frames before the close are skipped only with `skipping`. */
export const expectClose = async (
  line: Line,
  connection: Connection,
  passOver: ReadonlyArray<string>
): Promise<void> => {
  const { expectClose, skipping, within } = line.fields
  const codes = listOf(expectClose)
  const deadline = performance.now() + millisOf(within, "5 seconds")
  while (true) {
    const arrival = await connection.inbox.next(deadline - performance.now())
    if (arrival === undefined)
      throw new LineFailed(line, `the connection was not closed within ${String(within ?? "5 seconds")}`)
    if (arrival.kind === "closed") {
      if (!codes.includes("$any") && !codes.includes(arrival.code))
        throw new LineFailed(line, `received: ${describe(arrival)}`)
      return
    }
    const isPassedOver = skipping === true || (arrival.kind === "frame" && passOver.includes(typeOf(arrival.frame)))
    if (!isPassedOver) throw new LineFailed(line, `received: ${describe(arrival)}`)
  }
}

const maxQuotedLength = 600

const describe = (arrival: Arrival): string => {
  if (arrival.kind === "closed") return `a close with ${arrival.code} ${arrival.reason}`
  const text = arrival.kind === "frame" ? JSON.stringify(arrival.frame) : arrival.text
  return text.length > maxQuotedLength ? `${text.slice(0, maxQuotedLength)}…` : text
}

function rejectIfTooEarly(line: Line, millis: number, notBefore: Json | undefined): void {
  if (notBefore === undefined || millis >= millisOf(notBefore, "")) return
  throw new LineFailed(line, `the frame arrived after ${Math.round(millis)} milliseconds, which is too early`)
}

function typeOf(frame: Json): string {
  return isObject(frame) ? String(frame["type"]) : ""
}
