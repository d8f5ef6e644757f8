/** The lines that both kits know: frames said by the kit, frames and closes that must come from the party under test. */
import type { WebSocket } from "ws"
import { type Arrival, type Inbox, listen } from "./Inbox.ts"
import { type Captures, fill, isObject, type Json, listOf, mismatch } from "./pattern.ts"
import { type Line, LineFailed, millisOf } from "./transcript.ts"

export interface Connection {
  readonly ws: WebSocket
  readonly inbox: Inbox<Arrival>
  /** When the last frame was taken, or the connection began. */
  lastAt: number
}

export const connectionOf = (ws: WebSocket): Connection => ({ ws, inbox: listen(ws), lastAt: performance.now() })

/** Says the line's `frame`, `text` or `binary`, as often as `repeat` says. */
export const say = (line: Line, { ws }: Connection, captures: Captures): void => {
  const { binary, frame, repeat, text } = line.fields
  for (let count = Number(repeat ?? 1); count > 0; count -= 1) {
    if (typeof binary === "string") ws.send(Buffer.from(binary))
    else if (typeof text === "string") ws.send(text)
    else ws.send(JSON.stringify(fill(frame ?? null, captures)))
  }
}

/**
 * Waits for a frame like the line's `frame`. Frames of the types in `passOver` never count, unless they match. With
 * `skipping` every other frame is passed over too; none may be like one of `never`.
 */
export const expectFrame = async (
  line: Line,
  connection: Connection,
  captures: Captures,
  passOver: ReadonlyArray<string>
): Promise<void> => {
  const { frame = "$any", never, notBefore, skipping, within } = line.fields
  const began = connection.lastAt
  const deadline = performance.now() + millisOf(within, "5 seconds")
  while (true) {
    const arrival = await connection.inbox.take(deadline - performance.now())
    if (arrival === undefined) throw new LineFailed(line, `no such frame came within ${String(within ?? "5 seconds")}`)
    if (arrival.kind !== "frame") throw new LineFailed(line, `came: ${describe(arrival)}`)
    const fault = mismatch(frame, arrival.frame, captures)
    if (fault === undefined) {
      checkTooEarly(line, arrival.at - began, notBefore)
      connection.lastAt = arrival.at
      return
    }
    if (passOver.includes(typeOf(arrival.frame))) continue
    const forbidden = listOf(never).find((pattern) => mismatch(pattern, arrival.frame, new Map(captures)) === undefined)
    if (skipping !== true || forbidden !== undefined) throw new LineFailed(line, `${fault}; came: ${describe(arrival)}`)
  }
}

/** Waits for the end of the connection with one of the codes; frames before it are passed over only with `skipping`. */
export const expectClose = async (
  line: Line,
  connection: Connection,
  passOver: ReadonlyArray<string>
): Promise<void> => {
  const { expectClose, skipping, within } = line.fields
  const codes = listOf(expectClose)
  const deadline = performance.now() + millisOf(within, "5 seconds")
  while (true) {
    const arrival = await connection.inbox.take(deadline - performance.now())
    if (arrival === undefined)
      throw new LineFailed(line, `the connection was not closed within ${String(within ?? "5 seconds")}`)
    if (arrival.kind === "closed") {
      if (!codes.includes("$any") && !codes.includes(arrival.code))
        throw new LineFailed(line, `came: ${describe(arrival)}`)
      return
    }
    const isPassedOver = skipping === true || (arrival.kind === "frame" && passOver.includes(typeOf(arrival.frame)))
    if (!isPassedOver) throw new LineFailed(line, `came: ${describe(arrival)}`)
  }
}

const longest = 600

const describe = (arrival: Arrival): string => {
  if (arrival.kind === "closed") return `a close with ${arrival.code} ${arrival.reason}`
  const text = arrival.kind === "frame" ? JSON.stringify(arrival.frame) : arrival.text
  return text.length > longest ? `${text.slice(0, longest)}…` : text
}

function checkTooEarly(line: Line, millis: number, notBefore: Json | undefined): void {
  if (notBefore === undefined || millis >= millisOf(notBefore, "")) return
  throw new LineFailed(line, `it came after ${Math.round(millis)} milliseconds, which is too early`)
}

function typeOf(frame: Json): string {
  return isObject(frame) ? String(frame["type"]) : ""
}
