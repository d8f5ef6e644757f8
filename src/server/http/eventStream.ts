/** Encodes events as a `text/event-stream` (WHATWG HTML, section 9.2). */
import type { PublishedEvent } from "#events/EventBuffer.ts"
import { Stream } from "effect"

/** Shorter than the idle timeouts of common proxies. */
const keepAliveInterval = "15 seconds"

/** Delay before a client reconnects. */
const retryMillis = 2_000

/**
 * Encodes the stream. It begins with the cursor `from`, so that a reader that reconnects before the first event misses
 * none.
 */
export const eventStream = (from: string, events: Stream.Stream<PublishedEvent>): Stream.Stream<Uint8Array> => {
  const comments = Stream.map(Stream.drop(Stream.tick(keepAliveInterval), 1), () => ": still here\n\n")
  return Stream.make(`id: ${from}\nretry: ${retryMillis}\n\n`).pipe(
    Stream.concat(Stream.merge(Stream.map(events, encodeEvent), comments, { haltStrategy: "left" })),
    Stream.encodeText
  )
}

/** `JSON.stringify` writes no line breaks, so the data fits in one line. */
function encodeEvent({ event: { data, event }, id }: PublishedEvent): string {
  return `id: ${id}\nevent: ${event}\ndata: ${JSON.stringify(data)}\n\n`
}
