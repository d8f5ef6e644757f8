/** Calls over the IPC channel between the orchestrator and the processes that it has started. */
import type { ChildProcess } from "node:child_process"
import { within } from "./clock.ts"

/** What a process answers to: functions of one argument that can be sent as JSON, as can what they return. */
export type Handlers = Readonly<Record<string, (argument: never) => unknown>>

interface Request {
  readonly call: number
  readonly name: string
  readonly argument: unknown
}

interface Answer {
  readonly call: number
  readonly value?: unknown
  readonly failure?: string
}

/** Answers the orchestrator's calls; names that are not among the handlers are left to others. Ends with the orchestrator. */
export const answerCalls = (handlers: Handlers): void => {
  process.on("message", (message: Request) => {
    const handler = handlers[message.name]
    if (handler !== undefined) void answer(handler as (argument: unknown) => unknown, message)
  })
}

/** The other side of `answerCalls`. */
export class Remote<H extends Handlers> {
  readonly process: ChildProcess
  readonly #waiting = new Map<number, { resolve: (value: never) => void; reject: (error: Error) => void }>()
  #calls = 0

  constructor(child: ChildProcess, what: string) {
    this.process = child
    child.on("message", (message: Answer) => {
      const waiting = this.#waiting.get(message.call)
      this.#waiting.delete(message.call)
      if (message.failure === undefined) waiting?.resolve(message.value as never)
      else waiting?.reject(new Error(`${what}: ${message.failure}`))
    })
    child.once("exit", (code, signal) => {
      for (const { reject } of this.#waiting.values()) reject(new Error(`${what} ended (${signal ?? code})`))
      this.#waiting.clear()
    })
  }

  async call<Name extends keyof H & string>(
    name: Name,
    argument: Parameters<H[Name]>[0],
    timeoutMillis = 60_000
  ): Promise<Awaited<ReturnType<H[Name]>>> {
    const call = this.#calls += 1
    const answered = new Promise<Awaited<ReturnType<H[Name]>>>((resolve, reject) => {
      this.#waiting.set(call, { resolve, reject })
      this.process.send({ call, name, argument: argument ?? null } satisfies Request)
    })
    return within(timeoutMillis, name, answered)
  }
}

async function answer(handler: (argument: unknown) => unknown, { argument, call }: Request): Promise<void> {
  const reply = (message: Omit<Answer, "call">) => process.send?.({ call, ...message } satisfies Answer)
  try {
    reply({ value: await handler(argument) })
  } catch (error) {
    reply({ failure: error instanceof Error ? error.message : String(error) })
  }
}
