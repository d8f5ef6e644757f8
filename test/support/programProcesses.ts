/** Child processes of the demo: the server, the command line, gateways and agents, as a user starts them. */
import { endWithThisProcess } from "#processes/endWithParent.ts"
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { createSocket } from "node:dgram"
import { createServer } from "node:net"
import { resolve } from "node:path"
import { createInterface } from "node:readline"

/** The Node that runs the demo. */
const node = process.execPath

/** `ip netns exec` becomes the program, so that signals reach it. */
const spawnIn = (
  namespace: string | undefined,
  args: ReadonlyArray<string>,
  environment: Readonly<Record<string, string>>
) => {
  const words = namespace === undefined ? [node, ...args] : ["ip", "netns", "exec", namespace, node, ...args]
  const [command = node, ...rest] = words
  return spawn(command, rest, { env: { ...process.env, ...environment }, stdio: ["ignore", "pipe", "pipe"] })
}

/** A program that runs until it is stopped or killed. */
export class Program {
  readonly #child: ChildProcess
  readonly #lines: Array<string> = []
  readonly #waiting = new Set<() => void>()
  readonly #ended: Promise<unknown>

  /** `file`: a program, or `-e` for code. `namespace`: name of a network namespace. */
  constructor(
    file: string,
    args: ReadonlyArray<string>,
    environment: Readonly<Record<string, string>>,
    namespace?: string
  ) {
    this.#child = spawnIn(namespace, [file === "-e" ? file : resolve(file), ...args], environment)
    endWithThisProcess(this.#child)
    this.#ended = once(this.#child, "exit")
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      if (stream !== null) createInterface(stream).on("line", (line) => this.#add(line))
    }
    this.#child.once("exit", () => this.#wake())
  }

  /** Waits for a line of the log that contains the text, and returns it. Rejects if the program ends without it. */
  async line(text: string): Promise<string> {
    while (true) {
      const found = this.#lines.find((line) => line.includes(text))
      if (found !== undefined) return found
      if (this.#child.exitCode !== null) throw new Error(`a program ended: ${this.#lines.slice(-3).join("\n")}`)
      await new Promise<void>((wake) => this.#waiting.add(wake))
    }
  }

  /** Ends the program without a chance to say goodbye. */
  async kill(): Promise<void> {
    this.#child.kill("SIGKILL")
    await this.#ended
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    this.#child.kill("SIGTERM")
    await this.#ended
  }

  #add(line: string): void {
    this.#lines.push(line)
    this.#wake()
  }

  #wake(): void {
    for (const wake of this.#waiting) wake()
    this.#waiting.clear()
  }
}

/** Runs `control` with these words. Returns its standard output. Rejects with its error. */
export const control = async (
  words: ReadonlyArray<string>,
  environment: Readonly<Record<string, string>>,
  namespace?: string
): Promise<string> => {
  const child = spawnIn(namespace, [resolve("src/cli/main.ts"), ...words], environment)
  const output = { stdout: "", stderr: "" }
  child.stdout.on("data", (chunk: Buffer) => void (output.stdout += String(chunk)))
  child.stderr.on("data", (chunk: Buffer) => void (output.stderr += String(chunk)))
  const [code] = await once(child, "close")
  if (code !== 0) throw new Error(`control ${words.join(" ")}: ${output.stderr.trim()}`)
  return output.stdout.trim()
}

export const freeTcpPort = async (): Promise<number> => {
  const server = createServer().listen(0, "127.0.0.1")
  await once(server, "listening")
  const address = server.address()
  server.close()
  await once(server, "close")
  return typeof address === "object" && address !== null ? address.port : 0
}

export const freeUdpPort = async (): Promise<number> => {
  const socket = createSocket("udp4").bind(0)
  await once(socket, "listening")
  const { port } = socket.address()
  socket.close()
  return port
}
