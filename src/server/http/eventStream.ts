/** Events as the bytes of a `text/event-stream` (WHATWG HTML, section 9.2). */
import type { PublishedEvent } from "#events/EventBuffer.ts"
import { Stream } from "effect"

/** Often enough that nothing between takes the connection for dead. */
const keepAliveEvery = "15 seconds"

/** When to come back after the connection has ended, in milliseconds. */
const retryMillis = 2_000

/** Begins with an id, so that also a reader that has seen no event can go on from where it was. */
export const eventStream = (from: string, events: Stream.Stream<PublishedEvent>): Stream.Stream<Uint8Array> => {
  const comments = Stream.map(Stream.drop(Stream.tick(keepAliveEvery), 1), () => ": still here\n\n")
  return Stream.make(`retry: ${retryMillis}\nid: ${from}\n\n`).pipe(
    Stream.concat(Stream.merge(Stream.map(events, textOf), comments, { haltStrategy: "left" })),
    Stream.encodeText
  )
}

/** JSON has no line breaks, neither in its strings nor between them as it is written here: the data is one line. */
function textOf({ event: { data, event }, id }: PublishedEvent): string {
  return `id: ${id}\nevent: ${event}\ndata: ${JSON.stringify(data)}\n\n`
}
