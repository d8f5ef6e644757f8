/** `control events --follow`: prints events as they happen, and reconnects when the stream breaks. */
import { Console, Effect, Option, Schedule, Schema, Stream } from "effect"
import { Command, Flag } from "effect/cli"
import { Sse } from "effect/encoding"
import { download } from "./apiClient.ts"
import { type CommandFailed, commandFailed } from "./CommandFailed.ts"
import { findServer, type Server } from "./findServer.ts"
import type { Format } from "./output.ts"
import { replaceControlCharacters } from "./valueText.ts"
import { output, print } from "./print.ts"

export const eventsCommand = Command.make("events", {
  follow: Flag.Boolean("follow").pipe(
    Flag.withDescription("Print events until the command is stopped (required)"),
    Flag.withDefault(false)
  ),
  since: Flag.optional(
    Flag.String("since").pipe(
      Flag.withMetavar("EVENT_ID"),
      Flag.withDescription("Id of the last event that was read; prints the events after it")
    )
  ),
  output
}, ({ follow, output, since }) =>
  follow
    ? Effect.flatMap(findServer, (server) => followEvents(server, output, Option.getOrUndefined(since)))
    : Effect.fail(commandFailed("usage", "control events needs --follow; past events are in control audit list"))).pipe(
    Command.withDescription("Print events as they happen: changes, connections and disconnections"),
    Command.withExamples([{ command: "control events --follow -o jsonl" }])
  )

const reconnectInterval = "2 seconds"

/** After a first successful connection, a broken stream is resumed after its last event instead of failing the command. */
const followEvents = Effect.fnUntraced(function*(server: Server, format: Format, since: string | undefined) {
  let lastEventId = since
  let hasConnected = false
  const followOnce = Effect.suspend(() =>
    download(server, {
      method: "GET",
      path: "/api/events",
      headers: lastEventId === undefined ? {} : { "last-event-id": lastEventId }
    }).pipe(
      Stream.tap(() =>
        Effect.sync(() => {
          hasConnected = true
        })
      ),
      Stream.decodeText(),
      parseEvents,
      Stream.runForEach((message) => {
        lastEventId = (message._tag === "Event" ? message.id : message.lastEventId) ?? lastEventId
        return message._tag === "Event" ? printEvent(message, format) : Effect.void
      })
    )
  )
  const followOrWarn = Effect.catchIf(
    followOnce,
    ({ kind }) => hasConnected && kind === "unreachable",
    ({ message }) => Console.error(`control: ${message}; reconnecting`)
  )
  yield* Effect.repeat(followOrWarn, Schedule.spaced(reconnectInterval))
})

/** `Sse.decode` would end the stream at a `retry` field, and Control's first message has one; the parser returns both. */
const parseEvents = (text: Stream.Stream<string, CommandFailed>) =>
  Stream.suspend(() => {
    const parsed: Array<Sse.AnyEvent> = []
    const parser = Sse.makeParser((message) => parsed.push(message))
    return Stream.flattenIterable(Stream.mapEffect(text, (chunk) => {
      const error = parser.feed(chunk)
      return error === undefined
        ? Effect.succeed(parsed.splice(0))
        : Effect.fail(commandFailed("failed", error.message))
    }))
  })

const decodeData = Schema.decodeUnknownSync(Schema.fromJsonString(Schema.Unknown))

const printEvent = ({ data, event, id }: Sse.Event, format: Format) =>
  format === "table"
    ? print("table", replaceControlCharacters(`${event}  ${data}`))
    : print(format === "json" ? "jsonl" : format, { id, event, data: decodeData(data) })
