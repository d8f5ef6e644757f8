/** `control events --follow`: what happens, as it happens. */
import { Console, Effect, Option, Schedule, Stream } from "effect"
import { Command, Flag } from "effect/cli"
import { fail } from "./CommandFailed.ts"
import { output, print } from "./resourceCommands.ts"
import { type Format, visible } from "./output.ts"
import { Asking, download, findServer, type Server } from "./apiClient.ts"

export const events = Command.make("events", {
  follow: Flag.Boolean("follow").pipe(
    Flag.withDescription("Go on until it is ended; there is no other way yet"),
    Flag.withDefault(false)
  ),
  since: Flag.optional(Flag.String("since").pipe(Flag.withDescription("Go on after the event of this id"))),
  output
}, ({ follow, output, since }) =>
  follow
    ? Effect.flatMap(findServer, (server) => following(server, output, Option.getOrUndefined(since))).pipe(
      Effect.provide(Asking)
    )
    : Effect.fail(fail("usage", "say --follow: events are told as they happen"))).pipe(
    Command.withDescription("Follow what happens")
  )

/** A stream that was cut off is taken up after the last event: only a first one that cannot be had is a failure. */
const following = Effect.fnUntraced(function*(server: Server, format: Format, since: string | undefined) {
  let last = since
  let hasBegun = false
  const once = Effect.suspend(() =>
    download(server, {
      method: "GET",
      path: "/api/events",
      headers: last === undefined ? {} : { "last-event-id": last }
    })
      .pipe(
        Stream.decodeText(),
        Stream.splitLines,
        Stream.runFoldEffect(() => emptyEvent, (event, line) => {
          hasBegun = true
          if (line !== "") return Effect.succeed(withLine(event, line))
          last = event.id ?? last
          return Effect.as(show(event, format), emptyEvent)
        })
      )
  )
  const again = Effect.catchIf(
    once,
    ({ kind }) => hasBegun && kind === "unreachable",
    ({ message }) => Console.error(`control: ${message}; trying again`)
  )
  yield* Effect.repeat(again, Schedule.spaced("2 seconds"))
})

interface ServerSent {
  readonly id?: string
  readonly event?: string
  readonly data?: string
}

const emptyEvent: ServerSent = {}

/** WHATWG HTML, section 9.2.6, as far as Control uses it: a comment begins with a colon, and data is one line. */
const withLine = (event: ServerSent, line: string): ServerSent => {
  const [, field, value] = /^(id|event|data): ?(.*)$/u.exec(line) ?? []
  return field === undefined ? event : { ...event, [field]: value }
}

const show = ({ data, event, id }: ServerSent, format: Format) => {
  if (event === undefined || data === undefined) return Effect.void
  const told: unknown = { id, event, data: JSON.parse(data) }
  return format === "table"
    ? print("table", visible(`${event}  ${data}`))
    : print(format === "json" ? "jsonl" : format, told)
}
