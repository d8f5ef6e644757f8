/** Runs transcripts against a server: plays its clients and its operator. */
import { WebSocket } from "ws"
import { type Connection, connectionOf, expectClose, expectFrame, send } from "./sharedLines.ts"
import { issueCertificate } from "./issueCertificate.ts"
import { type Captures, isObject, type Json, listOf, mismatch, substitute } from "./pattern.ts"
import { type Line, LineFailed, millisOf, TargetUnreachable, type Transcript } from "./transcript.ts"

export interface ServerUnderTest {
  /** For example `ws://127.0.0.1:3001`. */
  readonly ws: string
  /** For example `http://127.0.0.1:3000`. */
  readonly api: string
  readonly token: string
}

interface Run {
  readonly server: ServerUnderTest
  readonly captures: Captures
  readonly connections: Map<string, Connection>
  /** API paths to delete at the end, newest first. */
  readonly undo: Array<string>
}

/**
 * Resolves if the server behaves as in the transcript. Rejects with `LineFailed`, or with `TargetUnreachable` if the server
 * cannot be reached. Deletes what the transcript created in every case.
 */
export const runServerTranscript = async (transcript: Transcript, server: ServerUnderTest): Promise<void> => {
  const run: Run = {
    server,
    // Unique text that makes host names in transcripts different from those of other runs.
    captures: new Map([["run", Math.random().toString(36).slice(2, 10)], ...certificateCaptures()]),
    connections: new Map(),
    undo: []
  }
  const cleanupErrors: Array<unknown> = []
  try {
    for (const line of transcript.lines) await runLine(line, run)
  } finally {
    for (const { ws } of run.connections.values()) ws.terminate()
    // A failed cleanup must not hide the line that has failed.
    for (const path of run.undo.toReversed()) {
      await request(server, "DELETE", path, undefined).catch((error: unknown) => cleanupErrors.push(error))
    }
  }
  if (cleanupErrors.length > 0) throw cleanupErrors[0]
}

/** A self-signed certificate of 90 days, its key and its end. */
function certificateCaptures(): ReadonlyArray<[string, string]> {
  const { certificate, expiresAt, privateKey } = issueCertificate({ names: ["certificate.conformance.example"] })
  return [["certificate", certificate], ["privateKey", privateKey], ["expiresAt", expiresAt]]
}

async function runLine(line: Line, run: Run): Promise<void> {
  const { fields } = line
  if ("operator" in fields) return requestApi(line, run)
  if ("connect" in fields) return connect(line, run)
  if ("pause" in fields) return pause(millisOf(fields["pause"], ""))
  const connection = run.connections.get(String(fields["on"] ?? "client"))
  if (connection === undefined) throw new LineFailed(line, "no connection has this name")
  if (fields["from"] === "client") return send(line, connection, run.captures)
  if (fields["from"] === "control") return expectFrame(line, connection, run.captures, [])
  if ("expectClose" in fields) return expectClose(line, connection, [])
  if ("close" in fields) return connection.ws.close(Number(fields["close"]))
  throw new LineFailed(line, "unknown kind of line")
}

/** Opens a connection. With `refused`, the upgrade must be rejected, and the answer's `status` and `body` must match the pattern. */
async function connect(line: Line, { captures, connections, server }: Run): Promise<void> {
  const { connect: name, protocols, query, refused, selected } = line.fields
  const url = new URL(server.ws)
  for (const [key, value] of Object.entries(isObject(query) ? query : {})) {
    url.searchParams.set(key, String(substitute(value, captures)))
  }
  const ws = new WebSocket(url, Array.isArray(protocols) ? protocols.map(String) : [], { perMessageDeflate: false })
  const connection = connectionOf(ws)
  connections.set(String(name), connection)
  const answer = await upgradeResult(ws, server.ws)
  if (refused !== undefined) {
    const failure = mismatch(refused, answer ?? null, captures)
    if (failure !== undefined)
      throw new LineFailed(line, `${failure}; received: ${JSON.stringify(answer ?? "an open connection")}`)
  } else if (answer !== undefined) throw new LineFailed(line, `received: ${JSON.stringify(answer)}`)
  else if (selected !== undefined && ws.protocol !== selected) {
    throw new LineFailed(line, `the server selected ${JSON.stringify(ws.protocol)}`)
  }
}

/** Answer to a rejected upgrade; undefined once the connection is open. */
function upgradeResult(ws: WebSocket, address: string): Promise<{ readonly [key: string]: Json } | undefined> {
  const { promise, reject, resolve } = Promise.withResolvers<{ readonly [key: string]: Json } | undefined>()
  ws.on("open", () => resolve(undefined))
  ws.on("error", (error) => isNetwork(error) ? reject(unreachable(address, error)) : resolve({ error: error.message }))
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

/** Sends one request to the HTTP API. With `within`, the request is repeated until the answer matches. */
async function requestApi(line: Line, run: Run): Promise<void> {
  const { operator, undo, within } = line.fields
  const { body, expect = {}, method, path } = isObject(operator) ? operator : {}
  const deadline = performance.now() + millisOf(within, "0 seconds")
  while (true) {
    const filled = body === undefined ? undefined : substitute(body, run.captures)
    const answer = await request(run.server, String(method), String(substitute(path ?? "", run.captures)), filled)
    const failure = mismatch(expect, answer, run.captures)
    if (failure === undefined) break
    if (performance.now() >= deadline)
      throw new LineFailed(line, `${failure}; received: ${JSON.stringify(answer).slice(0, 600)}`)
    await pause(50)
  }
  run.undo.push(...listOf(undo).map((path) => String(substitute(path, run.captures))))
}

async function request(
  { api, token }: ServerUnderTest,
  method: string,
  path: string,
  body: Json | undefined
): Promise<{ readonly status: number; readonly body: Json }> {
  const response = await fetch(new URL(path, api), {
    method,
    redirect: "error",
    headers: {
      authorization: `Bearer ${token}`,
      ...(body === undefined ? {} : { "content-type": "application/json" })
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) })
  }).catch((error: unknown) => {
    throw unreachable(api, error instanceof Error && error.cause !== undefined ? error.cause : error)
  })
  const text = await response.text()
  return { status: response.status, body: text === "" ? null : JSON.parse(text) as Json }
}

/** Whether the network failed. System errors have a `syscall`; errors of the WebSocket library, such as a bad answer, have none. */
function isNetwork(error: Error): boolean {
  return "syscall" in error || error instanceof AggregateError
}

function unreachable(address: string, cause: unknown): TargetUnreachable {
  const causes = cause instanceof AggregateError ? cause.errors.map(String) : [String(cause)]
  return new TargetUnreachable(`the server at ${address} cannot be reached: ${causes.join(", ")}`)
}

function pause(millis: number): Promise<void> {
  return new Promise((resolve) => void setTimeout(resolve, millis))
}
