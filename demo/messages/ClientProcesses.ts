/** Starts client processes, runs actions, and checks and prints their effects on every client. */
import { Cause, Deferred, Effect, Exit, Queue, type Scope } from "effect"
import { type ChildProcess, fork } from "node:child_process"
import { join } from "node:path"
import type { Command, Message, Report, View } from "./client.ts"
import { describe, event, fault, paint, title } from "./print.ts"
import { DemoFailed, type Server, stepTimeout } from "./serverProcess.ts"

export interface Account {
  readonly name: string
  readonly type: "agent" | "gateway"
  readonly id: string
  readonly apiKey: string
}

/** Result of an action: a value for the scenario, and the text to print. */
export interface ActionResult<A> {
  readonly value: A
  readonly text: string
}

/** The messages that each client must receive because of an action, in order. All other clients must receive nothing. */
export type Expected = Readonly<Record<string, ReadonlyArray<string>>>

export interface ClientView {
  readonly view: View | undefined
  readonly heartbeats: number
}

export interface ClientProcesses {
  /** Starts the client process and connects it. */
  readonly start: (account: Account) => Effect.Effect<void, DemoFailed>
  readonly send: (name: string, message: Message) => Effect.Effect<void, DemoFailed>
  /** Stops the client's process from doing anything until `thaw`. */
  readonly freeze: (name: string) => Effect.Effect<void, DemoFailed>
  readonly thaw: (name: string) => Effect.Effect<void, DemoFailed>
  readonly kill: (name: string) => Effect.Effect<void, DemoFailed>
  /** Returns the view that the client itself reports. */
  readonly readView: (name: string) => Effect.Effect<ClientView, DemoFailed>
  /** Runs one action and prints its effects as they arrive. Fails if an expected message does not arrive. */
  readonly act: <A>(
    text: string,
    run: Effect.Effect<ActionResult<A>, DemoFailed>,
    expected?: Expected
  ) => Effect.Effect<A, DemoFailed>
  /** Returns the text of every message that clients of this name have received. */
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
  | { readonly kind: "answer"; readonly at: bigint; readonly text: string }
  | { readonly kind: "failure"; readonly error: DemoFailed }

/** Messages that arrive within this time after the last expected one count as unexpected effects of the action. */
const settleTime = "100 millis"

/** Creates the client processes of the demo. All of them are killed when the scope closes. */
export const makeClientProcesses = Effect.fnUntraced(
  function*({ wsUrl }: Server): Effect.fn.Return<ClientProcesses, never, Scope.Scope> {
    const scope = yield* Effect.scope
    const inbox = yield* Queue.unbounded<Item>()
    const children = new Map<string, ChildProcess>()
    const viewRequests = new Map<string, Deferred.Deferred<ClientView>>()
    const received = new Map<string, Array<string>>()
    const domains = new Map<string, string>()
    const faults: Array<string> = []

    const addEvent = (name: string, at: bigint, what: string, detail: string): void => {
      Queue.offerUnsafe(inbox, { kind: "event", at, name, what, detail })
    }

    const handleReport = (name: string, report: Report): void => {
      if (report.kind === "view") {
        const waiting = viewRequests.get(name)
        if (waiting !== undefined) Deferred.doneUnsafe(waiting, Effect.succeed(report))
        return
      }
      if (report.kind === "closed") return addEvent(name, report.at, `closed ${report.code}`, report.reason)
      const message: Message = JSON.parse(report.text)
      received.set(name, [...received.get(name) ?? [], report.text])
      if ("domain" in message.data) domains.set(String(message.data["id"]), String(message.data["domain"]))
      addEvent(name, report.at, message.type, describe(message, domains))
    }

    const startProcess = (account: Account): ChildProcess => {
      const child = fork(join(import.meta.dirname, "client.ts"), {
        serialization: "advanced",
        // The pipe is read by a frozen client only, and wakes it also when the demo has been killed.
        stdio: ["pipe", "inherit", "inherit", "ipc"],
        // Ctrl-C must reach only the demo; its clients end with the demo.
        detached: true
      })
      children.set(account.name, child)
      child.on("message", (report: Report) => handleReport(account.name, report))
      child.once("exit", (code, signal) => {
        if (children.get(account.name) === child) children.delete(account.name)
        addEvent(account.name, process.hrtime.bigint(), "process ended", signal ?? `exit code ${code}`)
      })
      const command: Command = { kind: "connect", url: wsUrl, type: account.type, apiKey: account.apiKey }
      child.send(command)
      return child
    }

    const childOf = (name: string) =>
      Effect.suspend(() => {
        const child = children.get(name)
        return child === undefined
          ? Effect.fail(new DemoFailed({ reason: `${name} has no process` }))
          : Effect.succeed(child)
      })

    const sendCommand = (name: string, command: Command) =>
      Effect.map(childOf(name), (child) => void child.send(command))

    const readView = Effect.fnUntraced(function*(name: string) {
      const answer = yield* Deferred.make<ClientView>()
      viewRequests.set(name, answer)
      yield* sendCommand(name, { kind: "getView" })
      return yield* Deferred.await(answer)
    })

    /** Reads reports until everything expected has arrived, and 100 ms longer. */
    const awaitEffects = Effect.fnUntraced(function*(start: bigint, expected: Expected) {
      const missing = new Map(Object.entries(expected).map(([name, messages]) => [name, [...messages]]))
      const affected = new Set<string>()
      let isAnswered = false
      const isComplete = () => isAnswered && [...missing.values()].every((messages) => messages.length === 0)
      for (;;) {
        const item = yield* Effect.timeoutOption(Queue.take(inbox), isComplete() ? settleTime : stepTimeout)
        if (item._tag === "None") {
          if (isComplete()) return [...children.keys()].filter((name) => !affected.has(name)).toSorted()
          const missingTexts = [...missing].filter(([, messages]) => messages.length > 0).map(([name, messages]) =>
            `${name} received no ${messages[0]}`
          )
          return yield* new DemoFailed({
            reason: [...missingTexts, ...(isAnswered ? [] : ["no answer"])].join(", ") + ` within ${stepTimeout}`
          })
        }
        if (item.value.kind === "failure") return yield* item.value.error
        if (item.value.kind === "answer") {
          isAnswered = true
          if (item.value.text !== "") event(item.value.at - start, "demo", item.value.text)
          continue
        }
        const { at, detail, name, what } = item.value
        affected.add(name)
        event(at - start, name, what, detail)
        if (missing.get(name)?.[0] === what) missing.get(name)?.shift()
        else {
          const expectedNext = missing.get(name)?.[0] ?? "nothing"
          faults.push(`${name} received ${what} instead of ${expectedNext}`)
          fault(`expected ${expectedNext}`)
        }
      }
    })

    const act = Effect.fnUntraced(
      function*<A>(text: string, run: Effect.Effect<ActionResult<A>, DemoFailed>, expected: Expected = {}) {
        title(text)
        const start = process.hrtime.bigint()
        const done = yield* Deferred.make<A>()
        yield* run.pipe(
          Effect.exit,
          Effect.flatMap((exit) => {
            if (Exit.isSuccess(exit)) {
              Queue.offerUnsafe(inbox, { kind: "answer", at: process.hrtime.bigint(), text: exit.value.text })
              return Deferred.succeed(done, exit.value.value)
            }
            const error = Cause.squash(exit.cause)
            const reason = error instanceof Error ? error.message : String(error)
            Queue.offerUnsafe(inbox, { kind: "failure", error: new DemoFailed({ reason }) })
            return Effect.void
          }),
          Effect.forkIn(scope)
        )
        const silent = yield* awaitEffects(start, expected)
        if (silent.length > 0) event(undefined, "", paint("dim", `no message for ${silent.join(", ")}`))
        return yield* Deferred.await(done)
      }
    )

    yield* Effect.addFinalizer(() => Effect.sync(() => children.forEach((child) => child.kill("SIGKILL"))))
    return {
      start: (account) => Effect.sync(() => void startProcess(account)),
      send: (name, message) => sendCommand(name, { kind: "send", message }),
      freeze: (name) => sendCommand(name, { kind: "freeze" }),
      thaw: (name) => Effect.map(childOf(name), (child) => void child.stdin?.write("\n")),
      kill: (name) => Effect.map(childOf(name), (child) => void child.kill("SIGKILL")),
      readView,
      act,
      received: (name) => received.get(name) ?? [],
      faults
    }
  }
)
