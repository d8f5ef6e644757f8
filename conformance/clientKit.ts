/** Runs transcripts against a client: plays Control on a local port and starts the client as a process. */
import { randomBytes } from "node:crypto"
import { once } from "node:events"
import { mkdtemp, rm, stat } from "node:fs/promises"
import { createServer, type IncomingMessage, type Server } from "node:http"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { type WebSocket, WebSocketServer } from "ws"
import { type Connection, connectionOf, expectClose, expectFrame, send } from "./sharedLines.ts"
import { Inbox } from "./Inbox.ts"
import { type Captures, type Json, mismatch } from "./pattern.ts"
import { type Client, describeProcess, kill, startClient } from "./clientProcess.ts"
import { type Line, LineFailed, millisOf, TargetUnreachable, type Transcript } from "./transcript.ts"

/** Types of messages that a client may send at any time. */
const ignoredTypes = ["heartbeat", "status"]

/** Time within which a client must answer a close frame. */
const closeTimeoutMillis = 2_000

interface IncomingConnection {
  readonly ws: WebSocket
  readonly request: IncomingMessage
  readonly at: number
}

interface Run {
  readonly captures: Captures
  readonly connections: Map<string, Connection>
  readonly arrivals: Inbox<IncomingConnection>
  readonly stateFile: string
  readonly start: () => Client
  client: Client
  /** Time when the kit sent the last close frame or cut the last connection. */
  closedAt: number
}

/**
 * Resolves if the client behaves as in the transcript. Rejects with `LineFailed`, or with `TargetUnreachable` if the command
 * cannot be started or exits before its first connection. Kills the client in every case.
 */
export const runClientTranscript = async (transcript: Transcript, command: ReadonlyArray<string>): Promise<void> => {
  const { arrivals, server } = startServer()
  const directory = await mkdtemp(join(tmpdir(), "control-conformance-"))
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  const address = server.address()
  const port = typeof address === "object" && address !== null ? address.port : 0
  const type = String(transcript.header["type"] ?? "agent")
  const apiKey = `ctl_${type === "agent" ? "agt" : "gw"}_conformance_${randomBytes(16).toString("hex")}`
  const stateFile = join(directory, "state.json")
  const env = {
    ...process.env,
    CONTROL_URL: `ws://127.0.0.1:${port}`,
    CONTROL_API_KEY: apiKey,
    CONTROL_CLIENT_TYPE: type,
    CONTROL_STATE_FILE: stateFile
  }
  const start = () => startClient(command, env)
  const run: Run = {
    captures: new Map([["apiKey", apiKey]]),
    connections: new Map(),
    arrivals,
    stateFile,
    start,
    client: start(),
    closedAt: performance.now()
  }
  try {
    for (const line of transcript.lines) await runLine(line, run)
  } catch (error) {
    if (!(error instanceof LineFailed)) throw error
    throw new LineFailed(error.line, `${error.message}${await describeProcess(run.client)}`)
  } finally {
    await kill(run.client)
    for (const { ws } of run.connections.values()) ws.terminate()
    server.close()
    server.closeAllConnections()
    await rm(directory, { recursive: true, force: true })
  }
}

function startServer(): { readonly server: Server; readonly arrivals: Run["arrivals"] } {
  const arrivals: Run["arrivals"] = new Inbox()
  const server = createServer()
  const sockets = new WebSocketServer({
    noServer: true,
    handleProtocols: (offered) => offered.has("control.v1") ? "control.v1" : false
  })
  server.on(
    "upgrade",
    (request, socket, head) =>
      sockets.handleUpgrade(request, socket, head, (ws) => arrivals.push({ ws, request, at: performance.now() }))
  )
  return { server, arrivals }
}

async function runLine(line: Line, run: Run): Promise<void> {
  const { fields } = line
  if ("accept" in fields) return accept(line, run)
  if ("noConnection" in fields) return expectNoConnection(line, run)
  if ("restart" in fields) return restart(run)
  if ("stateFile" in fields) return expectStateFile(line, run)
  const connection = run.connections.get(String(fields["on"] ?? "control"))
  if (connection === undefined) throw new LineFailed(line, "no connection has this name")
  if (fields["from"] === "control") return send(line, connection, run.captures)
  if (fields["from"] === "client") return expectFrame(line, connection, run.captures, ignoredTypes)
  if ("expectClose" in fields) return expectClose(line, connection, ignoredTypes)
  if ("close" in fields) return close(line, connection, run)
  throw new LineFailed(line, "unknown kind of line")
}

/** Waits for the client's next connection. `upgrade` is a pattern of its request: `{ path, query, protocols }`. */
async function accept(line: Line, run: Run): Promise<void> {
  const { accept: name, notBefore, upgrade = {}, within } = line.fields
  const arrival = await run.arrivals.next(millisOf(within, "5 seconds"), run.client.ended)
  if (arrival === undefined) {
    if (run.client.hasEnded && run.connections.size === 0) {
      throw new TargetUnreachable(`the client never connected${await describeProcess(run.client)}`)
    }
    if (run.client.hasEnded) throw new LineFailed(line, "the client did not reconnect")
    throw new LineFailed(line, `the client did not connect within ${String(within ?? "5 seconds")}`)
  }
  const { at, request, ws } = arrival
  const waited = at - run.closedAt
  const connection = connectionOf(ws)
  run.connections.set(String(name), connection)
  const failure = mismatch(upgrade, upgradeOf(request), run.captures)
  if (failure !== undefined) throw new LineFailed(line, failure)
  if (notBefore !== undefined && waited < millisOf(notBefore, "")) {
    const millis = Math.round(waited)
    throw new LineFailed(
      line,
      `the client reconnected ${millis} milliseconds after the close frame, which is too early`
    )
  }
}

function upgradeOf(request: IncomingMessage): Json {
  const url = new URL(request.url ?? "/", "ws://control")
  return {
    path: url.pathname,
    query: Object.fromEntries(url.searchParams),
    protocols: (request.headers["sec-websocket-protocol"] ?? "").split(",").map((name) => name.trim())
  }
}

async function close(line: Line, { inbox, ws }: Connection, run: Run): Promise<void> {
  const code = Number(line.fields["close"])
  if (code === 1006) ws.terminate()
  else ws.close(code)
  run.closedAt = performance.now()
  // Frames that were already on their way do not matter. The next connection does.
  while (true) {
    const arrival = await inbox.next(closeTimeoutMillis - (performance.now() - run.closedAt))
    if (arrival?.kind === "closed") return
    if (arrival !== undefined) continue
    const failure =
      `the client left the connection open for ${closeTimeoutMillis} milliseconds after the close frame ${code}: `
    throw new LineFailed(line, `${failure}it must answer with a close frame; its reconnect delay starts then`)
  }
}

async function expectNoConnection(line: Line, run: Run): Promise<void> {
  const quiet = String(line.fields["noConnection"])
  const arrival = await run.arrivals.next(millisOf(quiet, ""))
  if (arrival === undefined) return
  arrival.ws.terminate()
  const millis = Math.round(arrival.at - run.closedAt)
  throw new LineFailed(
    line,
    `the client connected ${millis} milliseconds after the close frame; it must not connect for ${quiet}`
  )
}

/** Simulates a crash: kills the client and starts it again with the same environment. */
async function restart(run: Run): Promise<void> {
  await kill(run.client)
  for (const { ws } of run.connections.values()) ws.terminate()
  run.client = run.start()
}

/** Polls the state file until it matches, because no message shows when a client has written the file. */
async function expectStateFile(line: Line, { captures, stateFile }: Run): Promise<void> {
  const { stateFile: expected = {}, within } = line.fields
  const deadline = performance.now() + millisOf(within, "5 seconds")
  while (true) {
    const facts = await stat(stateFile).catch(() => undefined)
    const mode = facts === undefined ? null : (facts.mode & 0o777).toString(8).padStart(4, "0")
    const failure = mismatch(expected, { mode }, captures)
    if (failure === undefined) return
    if (performance.now() >= deadline) throw new LineFailed(line, failure)
    await new Promise((resolve) => void setTimeout(resolve, 20))
  }
}
