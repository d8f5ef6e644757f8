/** A client of the server-sent event stream, whose events a test awaits. */
import { Deferred, Effect, Queue, type Scope } from "effect"
import { type IncomingMessage, request } from "node:http"
import { secretScanner } from "./SecretScanner.ts"

export interface ReceivedEvent {
  readonly id: string
  readonly event: string
  // oxlint-disable-next-line typescript/no-explicit-any -- received data is checked field by field
  readonly data: any
}

export interface EventFollower {
  readonly status: number
  readonly contentType: string | undefined
  /** The first id of the stream, before any event. */
  readonly firstId: string
  readonly next: Effect.Effect<ReceivedEvent>
  /** The next event with this name; events before it are dropped. */
  readonly nextNamed: (event: string) => Effect.Effect<ReceivedEvent>
  /** Number of received comments. */
  readonly commentCount: () => number
  /** `pause` stops reading from the socket; `resume` continues. */
  readonly pause: () => void
  readonly resume: () => void
  /** How the response ended. */
  readonly ended: Effect.Effect<"complete" | "aborted">
}

/** Opens /api/events and returns after the first id. The connection closes when the scope ends. */
export const followEvents = Effect.fnUntraced(function*(
  baseUrl: string,
  token: string,
  options: { readonly lastEventId?: string; readonly query?: string } = {}
): Effect.fn.Return<EventFollower, Error, Scope.Scope> {
  const inbox = yield* Queue.unbounded<ReceivedEvent>()
  const ended = yield* Deferred.make<"complete" | "aborted">()
  const first = yield* Deferred.make<string>()
  let comments = 0
  const receive = (block: string) => {
    secretScanner.addOutput("event", block)
    const fields = new Map(
      block.split("\n").map((line) => {
        const [name = "", ...rest] = line.split(": ")
        return [name, rest.join(": ")]
      })
    )
    const [id, event, data] = [fields.get("id") ?? "", fields.get("event"), fields.get("data")]
    if (block.startsWith(":")) comments += 1
    else if (event === undefined || data === undefined) Deferred.doneUnsafe(first, Effect.succeed(id))
    else Queue.offerUnsafe(inbox, { id, event, data: JSON.parse(data) })
  }
  const response = yield* Effect.acquireRelease(
    Effect.callback<IncomingMessage, Error>((resume) => {
      const sent = request(new URL(`/api/events${options.query ?? ""}`, baseUrl), {
        headers: {
          authorization: `Bearer ${token}`,
          ...(options.lastEventId === undefined ? {} : { "last-event-id": options.lastEventId })
        },
        agent: false
      }, (answer) => {
        let text = ""
        answer.setEncoding("utf8")
        answer.on("data", (chunk: string) => {
          const blocks = (text + chunk).split("\n\n")
          text = blocks.pop() ?? ""
          blocks.forEach(receive)
        })
        answer.on("error", () => {})
        answer.on("close", () => Deferred.doneUnsafe(ended, Effect.succeed(answer.complete ? "complete" : "aborted")))
        resume(Effect.succeed(answer))
      })
      sent.on("error", (error) => resume(Effect.fail(error)))
      sent.end()
    }),
    (answer) => Effect.sync(() => answer.destroy())
  )
  const status = response.statusCode ?? 0
  const next = Queue.take(inbox)
  return {
    status,
    contentType: response.headers["content-type"],
    firstId: status === 200 ? yield* Deferred.await(first) : "",
    next,
    nextNamed: (event) => Effect.repeat(next, { until: (seen) => seen.event === event }),
    commentCount: () => comments,
    pause: () => void response.pause(),
    resume: () => void response.resume(),
    ended: Deferred.await(ended)
  }
})
