/** The clients as processes, what each of them receives, and actions whose effects are watched on all of them. */
import { Cause, Deferred, Effect, Exit, Queue, type Scope } from "effect"
import { type ChildProcess, fork } from "node:child_process"
import { join } from "node:path"
import type { Message, Order, Report, View } from "./client.ts"
import { describe, event, fault, paint, title } from "./print.ts"
import { DemoFailed, patience, type Server } from "./server.ts"

export interface Account {
  readonly name: string
  readonly type: "agent" | "gateway"
  readonly id: string
  readonly apiKey: string
}

/** What an action gives: a value for the story, and what to print once it is done. */
export interface Done<A> {
  readonly value: A
  readonly said: string
}

/** Which client must receive what because of an action, in this order. Who is not named must receive nothing. */
export type Expected = Readonly<Record<string, ReadonlyArray<string>>>

export interface Shown {
  readonly view: View | undefined
  readonly heartbeats: number
}

export interface Stage {
  /** Starts the client's process, and has it connect. */
  readonly enter: (account: Account) => Effect.Effect<void, DemoFailed>
  readonly send: (name: string, message: Message) => Effect.Effect<void, DemoFailed>
  readonly signal: (name: string, signal: NodeJS.Signals) => Effect.Effect<void, DemoFailed>
  /** The client's own view, by its own account. */
  readonly show: (name: string) => Effect.Effect<Shown, DemoFailed>
  /** Runs one action, and prints it and what follows from it as it happens. Fails when something expected does not come. */
  readonly act: <A>(
    text: string,
    run: Effect.Effect<Done<A>, DemoFailed>,
    expected?: Expected
  ) => Effect.Effect<A, DemoFailed>
  /** Every text that any process has received under this name. */
  readonly received: (name: string) => ReadonlyArray<string>
  readonly faults: ReadonlyArray<string>
}

type Item =
  | {
    readonly kind: "event"
    readonly at: bigint
    readonly name: string
    readonly what: string
    readonly detail: string
  }
  | { readonly kind: "answer"; readonly at: bigint; readonly said: string }
  | { readonly kind: "failure"; readonly error: DemoFailed }

/** After all that was expected has come, what else comes within this time is a surprise of this action. */
const settle = "100 millis"

/** The processes end with the scope. */
export const makeStage = Effect.fnUntraced(function*({ wsUrl }: Server): Effect.fn.Return<Stage, never, Scope.Scope> {
  const scope = yield* Effect.scope
  const inbox = yield* Queue.unbounded<Item>()
  const children = new Map<string, ChildProcess>()
  const awaitingView = new Map<string, Deferred.Deferred<Shown>>()
  const received = new Map<string, Array<string>>()
  const domains = new Map<string, string>()
  const faults: Array<string> = []

  const happened = (name: string, at: bigint, what: string, detail: string): void => {
    Queue.offerUnsafe(inbox, { kind: "event", at, name, what, detail })
  }

  const take = (name: string, report: Report): void => {
    if (report.kind === "view") {
      const asker = awaitingView.get(name)
      if (asker !== undefined) Deferred.doneUnsafe(asker, Effect.succeed(report))
      return
    }
    if (report.kind === "closed") return happened(name, report.at, `closed ${report.code}`, report.reason)
    const message: Message = JSON.parse(report.text)
    received.set(name, [...received.get(name) ?? [], report.text])
    if ("domain" in message.data) domains.set(String(message.data["id"]), String(message.data["domain"]))
    happened(name, report.at, message.type, describe(message, domains))
  }

  const start = (account: Account): ChildProcess => {
    const child = fork(join(import.meta.dirname, "client.ts"), {
      serialization: "advanced",
      // A Ctrl-C is for the demo; its clients end when it does.
      detached: true
    })
    children.set(account.name, child)
    child.on("message", (report: Report) => take(account.name, report))
    child.once("exit", (code, signal) => {
      if (children.get(account.name) === child) children.delete(account.name)
      happened(account.name, process.hrtime.bigint(), "process ended", signal ?? `exit code ${code}`)
    })
    const order: Order = { kind: "connect", url: wsUrl, type: account.type, apiKey: account.apiKey }
    child.send(order)
    return child
  }

  const childOf = (name: string) =>
    Effect.suspend(() => {
      const child = children.get(name)
      return child === undefined
        ? Effect.fail(new DemoFailed({ reason: `${name} has no process` }))
        : Effect.succeed(child)
    })

  const tell = (name: string, order: Order) => Effect.map(childOf(name), (child) => void child.send(order))

  const show = Effect.fnUntraced(function*(name: string) {
    const answer = yield* Deferred.make<Shown>()
    awaitingView.set(name, answer)
    yield* tell(name, { kind: "show" })
    return yield* Deferred.await(answer)
  })

  /** Takes what comes until all is there that was expected, and a little longer. */
  const watch = Effect.fnUntraced(function*(start: bigint, expected: Expected) {
    const missing = new Map(Object.entries(expected).map(([name, whats]) => [name, [...whats]]))
    const heard = new Set<string>()
    let isAnswered = false
    const isComplete = () => isAnswered && [...missing.values()].every((whats) => whats.length === 0)
    for (;;) {
      const item = yield* Effect.timeoutOption(Queue.take(inbox), isComplete() ? settle : patience)
      if (item._tag === "None") {
        if (isComplete()) return [...children.keys()].filter((name) => !heard.has(name)).toSorted()
        const lacking = [...missing].filter(([, whats]) => whats.length > 0).map(([name, whats]) =>
          `${name} got no ${whats[0]}`
        )
        return yield* new DemoFailed({
          reason: [...lacking, ...(isAnswered ? [] : ["no answer"])].join(", ") + ` within ${patience}`
        })
      }
      if (item.value.kind === "failure") return yield* item.value.error
      if (item.value.kind === "answer") {
        isAnswered = true
        if (item.value.said !== "") event(item.value.at - start, "demo", item.value.said)
        continue
      }
      const { at, detail, name, what } = item.value
      heard.add(name)
      event(at - start, name, what, detail)
      if (missing.get(name)?.[0] === what) missing.get(name)?.shift()
      else {
        const wanted = missing.get(name)?.[0] ?? "nothing"
        faults.push(`${name} got ${what} where ${wanted} was expected`)
        fault(`expected ${wanted}`)
      }
    }
  })

  const act = Effect.fnUntraced(
    function*<A>(text: string, run: Effect.Effect<Done<A>, DemoFailed>, expected: Expected = {}) {
      title(text)
      const start = process.hrtime.bigint()
      const done = yield* Deferred.make<A>()
      yield* run.pipe(
        Effect.exit,
        Effect.flatMap((exit) => {
          if (Exit.isSuccess(exit)) {
            Queue.offerUnsafe(inbox, { kind: "answer", at: process.hrtime.bigint(), said: exit.value.said })
            return Deferred.succeed(done, exit.value.value)
          }
          const error = Cause.squash(exit.cause)
          const reason = error instanceof Error ? error.message : String(error)
          Queue.offerUnsafe(inbox, { kind: "failure", error: new DemoFailed({ reason }) })
          return Effect.void
        }),
        Effect.forkIn(scope)
      )
      const silent = yield* watch(start, expected)
      if (silent.length > 0) event(undefined, "", paint("dim", `nothing for ${silent.join(", ")}`))
      return yield* Deferred.await(done)
    }
  )

  yield* Effect.addFinalizer(() => Effect.sync(() => children.forEach((child) => child.kill("SIGKILL"))))
  return {
    enter: (account) => Effect.sync(() => void start(account)),
    send: (name, message) => tell(name, { kind: "say", message }),
    signal: (name, signal) => Effect.map(childOf(name), (child) => void child.kill(signal)),
    show,
    act,
    received: (name) => received.get(name) ?? [],
    faults
  }
})
