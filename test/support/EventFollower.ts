/** A reader of server-sent events that a test scripts: it keeps every event, and waits for what must come. */
import { Deferred, Effect, Queue, type Scope } from "effect"
import { type IncomingMessage, request } from "node:http"
import { canaries } from "./canaries.ts"

export interface Seen {
  readonly id: string
  readonly event: string
  // oxlint-disable-next-line typescript/no-explicit-any -- what comes off the wire is looked at field by field
  readonly data: any
}

export interface EventFollower {
  readonly status: number
  readonly contentType: string | undefined
  /** The id that it began with. */
  readonly from: string
  readonly next: Effect.Effect<Seen>
  /** The next event of this name; those before it are passed over. */
  readonly until: (event: string) => Effect.Effect<Seen>
  /** Comments that have come. */
  readonly comments: () => number
  /** Stops reading from the socket, and reads again. */
  readonly pause: () => void
  readonly resume: () => void
  /** How the answer ended: whole, or cut. */
  readonly ended: Effect.Effect<"whole" | "cut">
}

/** Follows /api/events; returns with its first id, and hangs up when the scope ends. */
export const follow = Effect.fnUntraced(function*(
  baseUrl: string,
  token: string,
  options: { readonly lastEventId?: string; readonly query?: string } = {}
): Effect.fn.Return<EventFollower, Error, Scope.Scope> {
  const inbox = yield* Queue.unbounded<Seen>()
  const ended = yield* Deferred.make<"whole" | "cut">()
  const first = yield* Deferred.make<string>()
  let comments = 0
  const take = (block: string) => {
    canaries.collect("event", block)
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
          blocks.forEach(take)
        })
        answer.on("error", () => {})
        answer.on("close", () => Deferred.doneUnsafe(ended, Effect.succeed(answer.complete ? "whole" : "cut")))
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
    from: status === 200 ? yield* Deferred.await(first) : "",
    next,
    until: (event) => Effect.repeat(next, { until: (seen) => seen.event === event }),
    comments: () => comments,
    pause: () => void response.pause(),
    resume: () => void response.resume(),
    ended: Deferred.await(ended)
  }
})
