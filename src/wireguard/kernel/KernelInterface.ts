/** The network interface of a kernel device: made by the kernel or by wireguard-go, and removed with the program. */
import type { Clock } from "#processes/clock.ts"
import { endWithThisProcess } from "#processes/endWithParent.ts"
import { type ChildProcess, spawn } from "node:child_process"
import { createHash } from "node:crypto"
import { once } from "node:events"
import { existsSync } from "node:fs"
import { CommandError, runCommand, toolEnvironment } from "./runCommand.ts"
import { interfaceText } from "./wgText.ts"

export interface InterfaceOptions {
  /** WireGuard private key in base64. */
  readonly privateKey: string
  readonly listenPort: number
  readonly mtu: number
  readonly clock: Clock
}

/** The reason why this machine cannot have a kernel device; undefined if it can. */
export const kernelProblem = async (): Promise<string | undefined> => {
  if (process.getuid?.() !== 0) return "it needs root"
  const tools = await Promise.allSettled([runCommand("ip", ["-V"]), runCommand("wg", ["--version"])])
  const missing = tools.find((result) => result.status === "rejected")
  if (missing !== undefined) return missing.reason instanceof Error ? missing.reason.message : "a tool is missing"
  // Unique, because a second program can ask at the same time.
  const probe = `ctlp${process.pid}`
  const hasModule = await isDone(runCommand("ip", ["link", "add", probe, "type", "wireguard"]))
  if (hasModule) {
    await isDone(runCommand("ip", ["link", "del", probe]))
    return undefined
  }
  if (!await isDone(runCommand("wireguard-go", ["--version"]))) {
    return "the kernel has no WireGuard, and wireguard-go is not installed"
  }
  return existsSync("/dev/net/tun") ? undefined : "the kernel has no WireGuard, and wireguard-go needs /dev/net/tun"
}

const isDone = (command: Promise<unknown>): Promise<boolean> => command.then(() => true, () => false)

/** Unique for a key, because the sockets of wireguard-go are shared by all network namespaces; at most 15 characters. */
const nameOf = (privateKey: string): string =>
  `ctl${createHash("sha256").update(privateKey).digest("hex").slice(0, 10)}`

const startMillis = 5_000
const endMillis = 2_000
const pollMillis = 20
const maxReasonChars = 2_048

export class KernelInterface {
  readonly name: string
  /** Called when wireguard-go ends by itself. The interface and its addresses are gone then. */
  onEnd: (reason: string) => void = () => {}
  readonly #options: InterfaceOptions
  #program: ChildProcess | undefined
  #isUp = false

  constructor(options: InterfaceOptions) {
    this.#options = options
    this.name = nameOf(options.privateKey)
  }

  get isUp(): boolean {
    return this.#isUp
  }

  /** Resolves with the UDP port. Rejects with a sentence if the system refuses. Removes what a killed program has left. */
  async open(listenPort = this.#options.listenPort): Promise<number> {
    const { mtu, privateKey } = this.#options
    await this.#removeOld()
    try {
      await runCommand("ip", ["link", "add", this.name, "type", "wireguard"]).catch(() => this.#startProgram())
      await runCommand("wg", ["setconf", this.name, "/dev/stdin"], interfaceText(privateKey, listenPort))
      await runCommand("ip", ["link", "set", this.name, "mtu", String(mtu), "up"])
      const port = Number(await runCommand("wg", ["show", this.name, "listen-port"]))
      const hasEnded = this.#program !== undefined && !isRunning(this.#program)
      if (hasEnded) throw new Error("wireguard-go has ended during the start")
      this.#isUp = true
      return port
    } catch (error) {
      await this.close()
      const isTaken = error instanceof CommandError && error.code === "EADDRINUSE"
      throw isTaken
        ? new CommandError(
          `UDP port ${listenPort} is in use by another program; stop it, or choose another port`,
          error.code
        )
        : error
    }
  }

  async close(): Promise<void> {
    this.#isUp = false
    const program = this.#program
    this.#program = undefined
    await isDone(runCommand("ip", ["link", "del", this.name]))
    if (program === undefined || !isRunning(program)) return
    program.kill("SIGTERM")
    const late = this.#options.clock.after(endMillis, () => program.kill("SIGKILL"))
    await once(program, "exit")
    late.cancel()
  }

  /** The wireguard-go of a killed program ends with its interface, and removes its socket. A new one must not begin before. */
  async #removeOld(): Promise<void> {
    await isDone(runCommand("ip", ["link", "del", this.name]))
    await this.#until(async () => !await this.#answers(), endMillis)
  }

  async #startProgram(): Promise<void> {
    const program = spawn("wireguard-go", ["-f", this.name], {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...toolEnvironment, LOG_LEVEL: "error" }
    })
    this.#program = program
    endWithThisProcess(program, "SIGTERM")
    let failure: string | undefined
    let lastError = ""
    for (const stream of [program.stdout, program.stderr]) {
      stream.setEncoding("utf8").on("data", (text: string) => {
        const [line] = text.match(/(?<=ERROR: ).*/u) ?? []
        if (line !== undefined) lastError = line.slice(0, maxReasonChars)
      })
    }
    program.once("error", (error) => (failure = error.message))
    program.once("exit", (code, signal) => {
      failure = lastError || (signal === null ? `exit code ${code}` : `ended by ${signal}`)
      if (!this.#isUp || this.#program !== program) return
      this.#isUp = false
      this.onEnd(failure)
    })
    await this.#until(async () => failure !== undefined || await this.#answers(), startMillis)
    if (failure === undefined && await this.#answers()) return
    throw new Error(
      `wireguard-go cannot make the interface ${this.name}: ${failure ?? "no answer"}; use --device userspace`
    )
  }

  /** Whether a wireguard-go or the kernel serves the interface. */
  #answers(): Promise<boolean> {
    return isDone(runCommand("wg", ["show", this.name, "listen-port"]))
  }

  /** Polls, because neither `wg` nor wireguard-go reports these changes. */
  async #until(condition: () => Promise<boolean>, millis: number): Promise<void> {
    const { clock } = this.#options
    const deadline = clock.monotonic() + millis
    const poll = async (): Promise<void> => {
      if (await condition() || clock.monotonic() > deadline) return
      await new Promise<void>((resolve) => clock.after(pollMillis, resolve))
      await poll()
    }
    await poll()
  }
}

const isRunning = ({ exitCode, pid, signalCode }: ChildProcess): boolean =>
  pid !== undefined && exitCode === null && signalCode === null
