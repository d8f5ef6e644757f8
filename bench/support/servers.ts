/** Starts the processes of a scenario: Control, the bare server and the load generator. */
import type { LoadHandlers } from "#bench/loadGenerator.ts"
import type { BareServerHandlers } from "#bench/bareServer.ts"
import { mkdtemp } from "node:fs/promises"
import { createServer } from "node:net"
import { join } from "node:path"
import { inheritedEnvironment, startNode, stopChild } from "./childProcesses.ts"
import { now, sleep } from "./timing.ts"
import type { Network } from "./BenchDatabase.ts"
import type { ProbeHandlers } from "./processProbe.ts"
import { IpcClient } from "./ipcCalls.ts"
import type { Tunnel } from "./seedNetwork.ts"
import { runDirectory } from "./runDirectory.ts"

export interface Server {
  /** WebSocket port. */
  readonly port: number
  readonly probe: IpcClient<ProbeHandlers>
  stop(): Promise<void>
}

export interface Control extends Server {
  readonly pid: number
  readonly apiUrl: string
  readonly adminToken: string
  /** Last 4,000 characters of the log. */
  output(): string
  readonly dataDir: string
  /** Sends an HTTP API request with the admin token. Rejects on any status but 2xx. */
  request(method: string, path: string, body: object): Promise<unknown>
  /** Sends SIGKILL and waits for the exit. */
  kill(): Promise<void>
}

export interface BareServer extends Server {
  readonly commands: IpcClient<BareServerHandlers>
  readonly url: string
}

export type LoadGenerator = IpcClient<LoadHandlers>

const startTimeoutMillis = 60_000

/**
 * Starts Control on its own network. Limits per address are wider than the defaults, because one machine runs thousands of
 * clients. The heartbeat timeout is 1 hour, because clients of some scenarios send no heartbeats.
 */
export const startControl = async (
  network: Network,
  existingDataDir?: string,
  settings: Readonly<Record<string, string>> = {}
): Promise<Control> => {
  const dataDir = existingDataDir ?? await mkdtemp(join(runDirectory, "control-"))
  const [port, apiPort] = [await findFreePort(), await findFreePort()]
  const adminToken = "ctl_adm_bench_0123456789abcdefghijklmnopqrstuvwxyz"
  const child = startNode("src/server/main.ts", {
    withProbe: true,
    env: {
      ...inheritedEnvironment(),
      DATABASE_URL: network.databaseUrl,
      CONTROL_DATA_DIR: dataDir,
      CONTROL_MASTER_KEY: network.masterKey,
      CONTROL_ADMIN_TOKEN: adminToken,
      CONTROL_WS_HOST: "127.0.0.1",
      CONTROL_WS_PORT: String(port),
      CONTROL_API_PORT: String(apiPort),
      CONTROL_MAX_UNAUTHENTICATED: "100000",
      CONTROL_MAX_UNAUTHENTICATED_PER_IP: "100000",
      CONTROL_HEARTBEAT_TIMEOUT: "1 hour",
      CONTROL_AUTH_TIMEOUT: "1 minute",
      CONTROL_LOG_LEVEL: "warn",
      CONTROL_LOG_FORMAT: "json",
      ...settings
    }
  })
  const apiUrl = `http://127.0.0.1:${apiPort}`
  let isStopped = false
  await waitUntilReady(`${apiUrl}/readyz`, () => child.process.exitCode === null, child.recentOutput)
  return {
    port,
    pid: child.process.pid ?? 0,
    apiUrl,
    adminToken,
    output: child.recentOutput,
    dataDir,
    probe: new IpcClient<ProbeHandlers>(child.process, "Control"),
    request: async (method, path, body) => {
      const response = await fetch(`${apiUrl}${path}`, {
        method,
        headers: { "Authorization": `Bearer ${adminToken}`, "Content-Type": "application/json" },
        body: JSON.stringify(body)
      })
      const text = await response.text()
      if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text.slice(0, 300)}`)
      return text === "" ? undefined : JSON.parse(text)
    },
    kill: async () => {
      isStopped = true
      const ended = new Promise<void>((resolve) => child.process.once("exit", () => resolve()))
      child.process.kill("SIGKILL")
      await ended
    },
    stop: async () => {
      if (isStopped) return
      isStopped = true
      await stopChild(child.process, 20_000)
      if (child.recentOutput() !== "")
        process.stderr.write(`  output of Control: ${child.recentOutput().slice(-1_500)}\n`)
    }
  }
}

export const startBareServer = async (): Promise<BareServer> => {
  const child = startNode("bench/bareServer.ts", { withProbe: true })
  const commands = new IpcClient<BareServerHandlers>(child.process, "the bare server")
  const port = await commands.call("listen", undefined as never)
  return {
    port,
    commands,
    probe: new IpcClient<ProbeHandlers>(child.process, "the bare server"),
    url: `http://127.0.0.1:${port}/`,
    stop: () => stopChild(child.process)
  }
}

export const startLoadGenerator = (): LoadGenerator =>
  new IpcClient<LoadHandlers>(startNode("bench/loadGenerator.ts", { withProbe: false }).process, "the load generator")

/** Constant fields of a tunnel in a gateway's delta, so that deltas of the bare server are as long as Control's. */
export const tunnelDelta = ({ agentVirtualIp, domain, id }: Tunnel): Record<string, unknown> => ({
  id,
  domain,
  agentVirtualIp
})

async function waitUntilReady(url: string, isAlive: () => boolean, recentOutput: () => string): Promise<void> {
  const deadline = now() + startTimeoutMillis
  while (now() < deadline) {
    if (!isAlive()) throw new Error(`Control did not start: ${recentOutput()}`)
    const answer = await fetch(url).catch(() => undefined)
    if (answer?.ok === true) return
    await sleep(50)
  }
  throw new Error(`Control was not ready after ${startTimeoutMillis / 1_000} s: ${recentOutput()}`)
}

async function findFreePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once("error", reject)
    server.listen(0, "127.0.0.1", () => {
      const address = server.address()
      server.close(() => resolve(typeof address === "object" && address !== null ? address.port : 0))
    })
  })
}
