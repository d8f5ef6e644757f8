/** The network interface of a kernel device: made by the kernel or by wireguard-go, and removed with the program. */
import type { Clock } from "#processes/clock.ts"
import { endWithThisProcess } from "#processes/endWithParent.ts"
import { type ChildProcess, spawn } from "node:child_process"
import { createHash } from "node:crypto"
import { runCommand } from "./runCommand.ts"
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
  const hasModule = await runCommand("ip", ["link", "add", probeName, "type", "wireguard"]).then(
    () => true,
    () => false
  )
  if (hasModule) await runCommand("ip", ["link", "del", probeName]).catch(() => {})
  const hasProgram = hasModule || await runCommand("wireguard-go", ["--version"]).then(() => true, () => false)
  return hasProgram ? undefined : "the kernel has no WireGuard, and wireguard-go is not installed"
}

const probeName = "ctlprobe"

/** Unique for a key, because the sockets of wireguard-go are shared by all network namespaces; at most 15 characters. */
const nameOf = (privateKey: string): string =>
  `ctl${createHash("sha256").update(privateKey).digest("hex").slice(0, 10)}`

const startMillis = 5_000
const pollMillis = 20

export class KernelInterface {
  readonly name: string
  #program: ChildProcess | undefined

  private constructor(name: string) {
    this.name = name
  }

  /** Rejects with a sentence if the system refuses. Removes what a killed program with the same key has left. */
  static async open({ clock, listenPort, mtu, privateKey }: InterfaceOptions): Promise<KernelInterface> {
    const name = nameOf(privateKey)
    await runCommand("ip", ["link", "del", name]).catch(() => {})
    const created = new KernelInterface(name)
    try {
      await runCommand("ip", ["link", "add", name, "type", "wireguard"]).catch(() => created.#startProgram(clock))
      await runCommand("wg", ["setconf", name, "/dev/stdin"], interfaceText(privateKey, listenPort))
      await runCommand("ip", ["link", "set", name, "mtu", String(mtu), "up"])
      return created
    } catch (error) {
      await created.close()
      throw error
    }
  }

  async listenPort(): Promise<number> {
    return Number(await runCommand("wg", ["show", this.name, "listen-port"]))
  }

  async close(): Promise<void> {
    await runCommand("ip", ["link", "del", this.name]).catch(() => {})
    this.#program?.kill("SIGTERM")
  }

  async #startProgram(clock: Clock): Promise<void> {
    const program = spawn("wireguard-go", ["-f", this.name], {
      stdio: "ignore",
      env: { ...envForGo, LOG_LEVEL: "error" }
    })
    this.#program = program
    endWithThisProcess(program, "SIGTERM")
    let failure: string | undefined
    program.once("error", (error) => (failure = error.message))
    program.once("exit", (code) => (failure ??= `it ended with exit code ${code}`))
    const deadline = clock.monotonic() + startMillis
    const isUp = () => runCommand("wg", ["show", this.name, "listen-port"]).then(() => true, () => false)
    const wait = async (): Promise<void> => {
      if (await isUp()) return
      if (failure !== undefined || clock.monotonic() > deadline) {
        throw new Error(`wireguard-go cannot make the interface ${this.name}: ${failure ?? "no answer"}`)
      }
      await new Promise<void>((resolve) => clock.after(pollMillis, resolve))
      await wait()
    }
    await wait()
  }
}

/** wireguard-go needs no variable of this program. */
const envForGo = { PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" }
