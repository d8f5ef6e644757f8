/** One Control process, started as its users start it, with its complete output. */
import { waitUntil } from "./waitUntil.ts"
import { type Api, api } from "#support/apiClient.ts"
import { type ChildProcess, spawn } from "node:child_process"
import { mkdir, readFile } from "node:fs/promises"
import { join, resolve } from "node:path"
import { endWithSuite } from "./childProcesses.ts"
import { freePort } from "#support/freePort.ts"

export interface NodeOptions {
  readonly name: string
  readonly dataDir: string
  readonly env: Readonly<Record<string, string>>
  /** Arguments of Node.js, such as `--max-old-space-size=256`. */
  readonly execArgv?: ReadonlyArray<string>
  /** Another checkout, for example of an older version. */
  readonly root?: string
  /** Shell commands before the program, such as `ulimit -n 256`. */
  readonly shellPrefix?: string
}

const startTimeoutMillis = 60_000

export class ControlNode {
  readonly name: string
  readonly wsPort: number
  readonly apiPort: number
  readonly options: NodeOptions
  /** Output of all starts of this node. */
  output = ""
  child: ChildProcess | undefined
  #exited: Promise<number | string> = Promise.resolve(0)
  #token = ""

  private constructor(options: NodeOptions, wsPort: number, apiPort: number) {
    this.options = options
    this.name = options.name
    this.wsPort = wsPort
    this.apiPort = apiPort
  }

  /** Creates a node without starting it. Its ports stay the same over all starts. */
  static async make(options: NodeOptions): Promise<ControlNode> {
    await mkdir(options.dataDir, { recursive: true, mode: 0o700 })
    return new ControlNode(options, await freePort(), await freePort())
  }

  get pid(): number {
    return this.child?.pid ?? 0
  }

  get isAlive(): boolean {
    return this.child !== undefined && this.child.exitCode === null && this.child.signalCode === null
  }

  /** Exit code, or the signal that ended the process. */
  get exited(): Promise<number | string> {
    return this.#exited
  }

  get operator(): Api {
    return api(`http://127.0.0.1:${this.apiPort}`, this.#token)
  }

  get token(): string {
    return this.#token
  }

  /** Starts the process without waiting. */
  spawn(env: Readonly<Record<string, string>> = {}): void {
    const { shellPrefix: before, dataDir, execArgv = [], env: own, root = "." } = this.options
    const program = [process.execPath, ...execArgv, resolve(root, "src/server/main.ts")]
    const [command = "", ...args] = before === undefined
      ? program
      : ["/bin/sh", "-c", `${before}; exec "$@"`, "sh", ...program]
    const child = spawn(command, args, {
      env: {
        PATH: process.env["PATH"],
        CONTROL_WS_HOST: "127.0.0.1",
        CONTROL_WS_PORT: String(this.wsPort),
        CONTROL_API_PORT: String(this.apiPort),
        CONTROL_DATA_DIR: dataDir,
        CONTROL_LOG_FORMAT: "json",
        ...own,
        ...env
      },
      stdio: ["ignore", "pipe", "pipe", "ipc"],
      cwd: resolve(root),
      detached: true
    })
    this.child = child
    // SIGKILL would leave the embedded PostgreSQL of an older version running.
    endWithSuite(child, "SIGTERM")
    this.#exited = new Promise((done) => child.once("exit", (code, signal) => done(code ?? signal ?? "unknown")))
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on("data", (data) => this.output = (this.output + String(data)).slice(-maxOutputLength))
    }
  }

  async start(env: Readonly<Record<string, string>> = {}): Promise<void> {
    this.spawn(env)
    await this.waitUntilReady()
  }

  /** Waits until the node is ready. Rejects when the process exits first. */
  async waitUntilReady(): Promise<void> {
    const took = await waitUntil(startTimeoutMillis, async () => !this.isAlive || await this.isReady())
    if (took === undefined || !this.isAlive)
      throw new Error(`${this.name} did not start: ${this.output.slice(-2_000)}`)
    this.#token = this.options.env["CONTROL_ADMIN_TOKEN"] ??
      (await readFile(join(this.options.dataDir, "admin-token"), "utf8")).trim()
  }

  async isReady(): Promise<boolean> {
    const answer = await fetch(`http://127.0.0.1:${this.apiPort}/readyz`).catch(() => undefined)
    await answer?.body?.cancel()
    return answer?.ok === true
  }

  signal(name: NodeJS.Signals): void {
    this.child?.kill(name)
  }

  /** Sends SIGTERM, and SIGKILL if the process is still alive after `timeoutMillis`. */
  async stop(timeoutMillis = 20_000): Promise<number | string> {
    if (!this.isAlive) return this.#exited
    this.signal("SIGCONT")
    this.signal("SIGTERM")
    const ended = await waitUntil(timeoutMillis, () => !this.isAlive)
    if (ended === undefined) this.signal("SIGKILL")
    return this.#exited
  }

  async kill(): Promise<void> {
    if (!this.isAlive) return
    this.signal("SIGKILL")
    await this.#exited
  }
}

/** Characters of output to keep; more than any run needs. */
const maxOutputLength = 32 * 1024 * 1024
