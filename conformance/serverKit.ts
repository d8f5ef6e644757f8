/** Runs transcripts against a server: the kit is its clients and its operator. */
import { WebSocket } from "ws"
import { type Connection, connectionOf, expectClose, expectFrame, say } from "./conversation.ts"
import { type Captures, fill, isObject, type Json, listOf, mismatch } from "./pattern.ts"
import { type Line, LineFailed, millisOf, NobodyThere, type Transcript } from "./transcript.ts"

export interface ServerUnderTest {
  /** Such as `ws://127.0.0.1:3001`. */
  readonly ws: string
  /** Such as `http://127.0.0.1:3000`. */
  readonly api: string
  readonly token: string
}

interface Run {
  readonly server: ServerUnderTest
  readonly captures: Captures
  readonly connections: Map<string, Connection>
  /** What is deleted at the end, the newest first. */
  readonly undo: Array<string>
}

/**
 * Resolves when everything went as the transcript says. Rejects with `LineFailed`, or with `NobodyThere` when the server
 * cannot be reached. Cleans up behind itself either way.
 */
export const runServerTranscript = async (transcript: Transcript, server: ServerUnderTest): Promise<void> => {
  const run: Run = {
    server,
    // Names that no other run has: host names in transcripts are made unique with it.
    captures: new Map([["run", Math.random().toString(36).slice(2, 10)]]),
    connections: new Map(),
    undo: []
  }
  const left: Array<unknown> = []
  try {
    for (const line of transcript.lines) await step(line, run)
  } finally {
    for (const { ws } of run.connections.values()) ws.terminate()
    // What cannot be cleaned up must not hide the line that has failed.
    for (const path of run.undo.toReversed()) {
      await ask(server, "DELETE", path, undefined).catch((error: unknown) => left.push(error))
    }
  }
  if (left.length > 0) throw left[0]
}

async function step(line: Line, run: Run): Promise<void> {
  const { fields } = line
  if ("operator" in fields) return operate(line, run)
  if ("connect" in fields) return connect(line, run)
  if ("pause" in fields) return pause(millisOf(fields["pause"], ""))
  const connection = run.connections.get(String(fields["on"] ?? "client"))
  if (connection === undefined) throw new LineFailed(line, "there is no such connection")
  if (fields["from"] === "client") return say(line, connection, run.captures)
  if (fields["from"] === "control") return expectFrame(line, connection, run.captures, [])
  if ("expectClose" in fields) return expectClose(line, connection, [])
  if ("close" in fields) return connection.ws.close(Number(fields["close"]))
  throw new LineFailed(line, "the kit does not know such a line")
}

/** Opens a connection, or has it refused where the line has `refused`: the pattern of the answer's `status` and `body`. */
async function connect(line: Line, { captures, connections, server }: Run): Promise<void> {
  const { connect: name, protocols, query, refused, selected } = line.fields
  const url = new URL(server.ws)
  for (const [key, value] of Object.entries(isObject(query) ? query : {})) {
    url.searchParams.set(key, String(fill(value, captures)))
  }
  const ws = new WebSocket(url, Array.isArray(protocols) ? protocols.map(String) : [], { perMessageDeflate: false })
  const connection = connectionOf(ws)
  connections.set(String(name), connection)
  const answer = await upgraded(ws, server.ws)
  if (refused !== undefined) {
    const fault = mismatch(refused, answer ?? null, captures)
    if (fault !== undefined)
      throw new LineFailed(line, `${fault}; came: ${JSON.stringify(answer ?? "an open connection")}`)
  } else if (answer !== undefined) throw new LineFailed(line, `came: ${JSON.stringify(answer)}`)
  else if (selected !== undefined && ws.protocol !== selected) {
    throw new LineFailed(line, `the server selected ${JSON.stringify(ws.protocol)}`)
  }
}

/** The answer to a refused upgrade; nothing once the connection is open. */
function upgraded(ws: WebSocket, address: string): Promise<{ readonly [key: string]: Json } | undefined> {
  const { promise, reject, resolve } = Promise.withResolvers<{ readonly [key: string]: Json } | undefined>()
  ws.on("open", () => resolve(undefined))
  ws.on("error", (error) => isNetwork(error) ? reject(nobodyAt(address, error)) : resolve({ error: error.message }))
  ws.on("unexpected-response", (request, response) => {
    let body = ""
    response.on("data", (part) => body += String(part))
    response.on("close", () => {
      resolve({ status: response.statusCode ?? 0, body })
      request.destroy()
    })
  })
  return promise
}

/** One request to the HTTP API. With `within` it is made again until the answer is as expected. */
async function operate(line: Line, run: Run): Promise<void> {
  const { operator, undo, within } = line.fields
  const { body, expect = {}, method, path } = isObject(operator) ? operator : {}
  const deadline = performance.now() + millisOf(within, "0 seconds")
  while (true) {
    const filled = body === undefined ? undefined : fill(body, run.captures)
    const answer = await ask(run.server, String(method), String(fill(path ?? "", run.captures)), filled)
    const fault = mismatch(expect, answer, run.captures)
    if (fault === undefined) break
    if (performance.now() >= deadline)
      throw new LineFailed(line, `${fault}; came: ${JSON.stringify(answer).slice(0, 600)}`)
    await pause(50)
  }
  run.undo.push(...listOf(undo).map((path) => String(fill(path, run.captures))))
}

async function ask(
  { api, token }: ServerUnderTest,
  method: string,
  path: string,
  body: Json | undefined
): Promise<{ readonly status: number; readonly body: Json }> {
  const response = await fetch(new URL(path, api), {
    method,
    headers: {
      authorization: `Bearer ${token}`,
      ...(body === undefined ? {} : { "content-type": "application/json" })
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) })
  }).catch((error: unknown) => {
    throw nobodyAt(api, error instanceof Error && error.cause !== undefined ? error.cause : error)
  })
  const text = await response.text()
  return { status: response.status, body: text === "" ? null : JSON.parse(text) as Json }
}

/** Errors of the system have a `syscall`; those of the WebSocket library, such as for a bad answer, have none. */
function isNetwork(error: Error): boolean {
  return "syscall" in error || error instanceof AggregateError
}

function nobodyAt(address: string, cause: unknown): NobodyThere {
  const causes = cause instanceof AggregateError ? cause.errors.map(String) : [String(cause)]
  return new NobodyThere(`the server at ${address} cannot be reached: ${causes.join(", ")}`)
}

function pause(millis: number): Promise<void> {
  return new Promise((resolve) => void setTimeout(resolve, millis))
}
