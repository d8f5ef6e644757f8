/** Request-response calls over the IPC channel between the orchestrator and its child processes. */
import type { ChildProcess } from "node:child_process"
import { withTimeout } from "./timing.ts"

/** Functions that a process offers. Arguments and results must be serializable as JSON. */
export type IpcHandlers = Readonly<Record<string, (argument: never) => unknown>>

interface IpcRequest {
  readonly callId: number
  readonly name: string
  readonly argument: unknown
}

interface IpcResponse {
  readonly callId: number
  readonly value?: unknown
  readonly failure?: string
}

/** Serves the calls of the orchestrator. Calls with an unknown name are ignored, because other modules may serve them. */
export const serveCalls = (handlers: IpcHandlers): void => {
  process.on("message", (message: IpcRequest) => {
    const handler = handlers[message.name]
    if (handler !== undefined) void handleRequest(handler as (argument: unknown) => unknown, message)
  })
}

/** Calls the functions that a child process serves with `serveCalls`. */
export class IpcClient<H extends IpcHandlers> {
  readonly process: ChildProcess
  readonly #pendingCalls = new Map<number, { resolve: (value: never) => void; reject: (error: Error) => void }>()
  #lastCallId = 0

  constructor(child: ChildProcess, processName: string) {
    this.process = child
    child.on("message", (message: IpcResponse) => {
      const waiting = this.#pendingCalls.get(message.callId)
      this.#pendingCalls.delete(message.callId)
      if (message.failure === undefined) waiting?.resolve(message.value as never)
      else waiting?.reject(new Error(`${processName}: ${message.failure}`))
    })
    child.once("exit", (code, signal) => {
      for (const { reject } of this.#pendingCalls.values()) {
        reject(new Error(`${processName} ended (${signal ?? code})`))
      }
      this.#pendingCalls.clear()
    })
  }

  async call<Name extends keyof H & string>(
    name: Name,
    argument: Parameters<H[Name]>[0],
    timeoutMillis = 60_000
  ): Promise<Awaited<ReturnType<H[Name]>>> {
    const callId = this.#lastCallId += 1
    const answered = new Promise<Awaited<ReturnType<H[Name]>>>((resolve, reject) => {
      this.#pendingCalls.set(callId, { resolve, reject })
      this.process.send({ callId, name, argument: argument ?? null } satisfies IpcRequest)
    })
    return withTimeout(timeoutMillis, name, answered)
  }
}

async function handleRequest(
  handler: (argument: unknown) => unknown,
  { argument, callId }: IpcRequest
): Promise<void> {
  const reply = (message: Omit<IpcResponse, "callId">) => process.send?.({ callId, ...message } satisfies IpcResponse)
  try {
    reply({ value: await handler(argument) })
  } catch (error) {
    reply({ failure: error instanceof Error ? error.message : String(error) })
  }
}
