/** Runs transcripts against a client: the kit is Control, on a port of this machine, and starts the client as a process. */
import { type ChildProcess, spawn } from "node:child_process"
import { randomBytes } from "node:crypto"
import { once } from "node:events"
import { mkdtemp, rm, stat } from "node:fs/promises"
import { createServer, type IncomingMessage, type Server } from "node:http"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { type WebSocket, WebSocketServer } from "ws"
import { type Connection, connectionOf, expectClose, expectFrame, say } from "./conversation.ts"
import { Inbox } from "./Inbox.ts"
import { type Captures, type Json, mismatch } from "./pattern.ts"
import { type Line, LineFailed, millisOf, type Transcript } from "./transcript.ts"

/** What a client may say whenever it likes. */
const passOver = ["heartbeat", "status"]

interface Run {
  readonly captures: Captures
  readonly connections: Map<string, Connection>
  readonly arrivals: Inbox<readonly [WebSocket, IncomingMessage]>
  readonly stateFile: string
  readonly start: () => ChildProcess
  client: ChildProcess
  /** When the last connection was closed by the kit. */
  closedAt: number
}

/** Resolves when everything went as the transcript says; rejects with `LineFailed`. The client is ended either way. */
export const runClientTranscript = async (transcript: Transcript, command: ReadonlyArray<string>): Promise<void> => {
  const { arrivals, server } = control()
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
  const [program = "", ...args] = command
  const start = () => spawn(program, args, { env, stdio: ["ignore", "ignore", "inherit"] })
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
    for (const line of transcript.lines) await step(line, run)
  } finally {
    await end(run.client)
    for (const { ws } of run.connections.values()) ws.terminate()
    server.close()
    server.closeAllConnections()
    await rm(directory, { recursive: true, force: true })
  }
}

function control(): { readonly server: Server; readonly arrivals: Run["arrivals"] } {
  const arrivals: Run["arrivals"] = new Inbox()
  const server = createServer()
  const sockets = new WebSocketServer({
    noServer: true,
    handleProtocols: (offered) => offered.has("control.v1") ? "control.v1" : false
  })
  server.on(
    "upgrade",
    (request, socket, head) => sockets.handleUpgrade(request, socket, head, (ws) => arrivals.put([ws, request]))
  )
  return { server, arrivals }
}

async function step(line: Line, run: Run): Promise<void> {
  const { fields } = line
  if ("accept" in fields) return accept(line, run)
  if ("noConnection" in fields) return expectNone(line, run)
  if ("restart" in fields) return restart(run)
  if ("stateFile" in fields) return expectState(line, run)
  const connection = run.connections.get(String(fields["on"] ?? "control"))
  if (connection === undefined) throw new LineFailed(line, "there is no such connection")
  if (fields["from"] === "control") return say(line, connection, run.captures)
  if (fields["from"] === "client") return expectFrame(line, connection, run.captures, passOver)
  if ("expectClose" in fields) return expectClose(line, connection, passOver)
  if ("close" in fields) return close(connection, Number(fields["close"]), run)
  throw new LineFailed(line, "the kit does not know such a line")
}

/** Waits for the client's next connection. `upgrade` is a pattern of its request: `{ path, query, protocols }`. */
async function accept(line: Line, run: Run): Promise<void> {
  const { accept: name, notBefore, upgrade = {}, within } = line.fields
  const arrival = await run.arrivals.take(millisOf(within, "5 seconds"))
  if (arrival === undefined) throw new LineFailed(line, "the client did not connect in time")
  const [ws, request] = arrival
  const waited = performance.now() - run.closedAt
  const connection = connectionOf(ws)
  run.connections.set(String(name), connection)
  const fault = mismatch(upgrade, upgradeOf(request), run.captures)
  if (fault !== undefined) throw new LineFailed(line, fault)
  if (notBefore !== undefined && waited < millisOf(notBefore, "")) {
    throw new LineFailed(line, `the client came back after ${Math.round(waited)} milliseconds, which is too early`)
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

async function close({ inbox, ws }: Connection, code: number, run: Run): Promise<void> {
  if (code === 1006) ws.terminate()
  else ws.close(code)
  run.closedAt = performance.now()
  // What was on its way is of no interest; the next connection is.
  while ((await inbox.take(2_000))?.kind === "frame");
}

async function expectNone(line: Line, run: Run): Promise<void> {
  const arrival = await run.arrivals.take(millisOf(line.fields["noConnection"], ""))
  if (arrival === undefined) return
  arrival[0].terminate()
  throw new LineFailed(
    line,
    `the client connected ${Math.round(performance.now() - run.closedAt)} milliseconds after the close`
  )
}

/** As a crash and a new start are: the client is killed, and started again with the same environment. */
async function restart(run: Run): Promise<void> {
  await end(run.client)
  for (const { ws } of run.connections.values()) ws.terminate()
  run.client = run.start()
}

/** The state file's facts, once it is there: waited for, since nothing says when a client has written it. */
async function expectState(line: Line, { captures, stateFile }: Run): Promise<void> {
  const { stateFile: expected = {}, within } = line.fields
  const deadline = performance.now() + millisOf(within, "5 seconds")
  while (true) {
    const facts = await stat(stateFile).catch(() => undefined)
    const mode = facts === undefined ? null : (facts.mode & 0o777).toString(8).padStart(4, "0")
    const fault = mismatch(expected, { mode }, captures)
    if (fault === undefined) return
    if (performance.now() >= deadline) throw new LineFailed(line, fault)
    await new Promise((resolve) => void setTimeout(resolve, 20))
  }
}

async function end(client: ChildProcess): Promise<void> {
  if (client.exitCode !== null || client.signalCode !== null) return
  const exited = once(client, "exit")
  client.kill("SIGKILL")
  await exited
}
