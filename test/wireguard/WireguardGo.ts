/** A wireguard-go interface in a network namespace, with a virtual cable to this one. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process"
import { once } from "node:events"
import { existsSync } from "node:fs"
import { setTimeout as sleep } from "node:timers/promises"

/** The reason why no namespace can be made here; undefined if one can. */
export const reasonToSkip = (): string | undefined => {
  if (process.getuid?.() !== 0) return "not root"
  if (!existsSync("/dev/net/tun")) return "no /dev/net/tun"
  for (const program of ["wireguard-go", "wg", "ip"]) {
    try {
      execFileSync("sh", ["-c", `command -v ${program}`], { stdio: "ignore" })
    } catch {
      return `${program} is not installed`
    }
  }
  try {
    execFileSync("unshare", ["--net", "true"], { stdio: "ignore" })
    return undefined
  } catch {
    return "no network namespace can be made"
  }
}

export class WireguardGo implements AsyncDisposable {
  /** Address of this namespace on the cable. */
  readonly nearHost = "10.213.77.1"
  /** Address of wireguard-go on the cable. */
  readonly farHost = "10.213.77.2"
  readonly port = 51_820
  /** Address of wireguard-go's interface inside the tunnel. */
  readonly address = "10.99.0.1"
  readonly #namespace = `cw1-${process.pid}`
  // wireguard-go's control sockets are shared by all namespaces.
  readonly #interface = `cw1go${process.pid}`
  readonly #cable = `cw1v${process.pid}`
  #process: ChildProcess | undefined

  static async start(privateKey: string): Promise<WireguardGo> {
    const go = new WireguardGo()
    try {
      await go.#start(privateKey)
      return go
    } catch (error) {
      await go[Symbol.asyncDispose]()
      throw error
    }
  }

  /** Runs a program in the namespace. Returns its output. */
  run(...command: ReadonlyArray<string>): string {
    return execFileSync("ip", ["netns", "exec", this.#namespace, ...command], { encoding: "utf8" })
  }

  /** Sets peers or other options as `wg set` does. */
  set(...options: ReadonlyArray<string>): void {
    this.run("wg", "set", this.#interface, ...options)
  }

  /** One column of `wg show`. */
  show(column: string): string {
    return this.run("wg", "show", this.#interface, column)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#process !== undefined && this.#process.exitCode === null) {
      this.#process.kill()
      await once(this.#process, "exit")
    }
    for (const command of [["link", "del", this.#cable], ["netns", "del", this.#namespace]]) {
      try {
        execFileSync("ip", command, { stdio: "ignore" })
      } catch {
        // It was not made.
      }
    }
  }

  async #start(privateKey: string): Promise<void> {
    const ip = (...command: ReadonlyArray<string>) => execFileSync("ip", command)
    ip("netns", "add", this.#namespace)
    ip("link", "add", this.#cable, "type", "veth", "peer", "name", "far", "netns", this.#namespace)
    ip("addr", "add", `${this.nearHost}/30`, "dev", this.#cable)
    ip("link", "set", this.#cable, "up")
    this.run("ip", "addr", "add", `${this.farHost}/30`, "dev", "far")
    this.run("ip", "link", "set", "far", "up")
    this.#process = spawn("ip", ["netns", "exec", this.#namespace, "wireguard-go", "-f", this.#interface], {
      stdio: "ignore",
      env: { ...process.env, WG_PROCESS_FOREGROUND: "1" }
    })
    const socket = `/var/run/wireguard/${this.#interface}.sock`
    for (let attempt = 0; !existsSync(socket); attempt += 1) {
      if (attempt > 500) throw new Error("wireguard-go does not start")
      await sleep(10)
    }
    // `wg` opens /dev/stdin, which must be a pipe; Node gives a socket.
    const set = `cat | wg set ${this.#interface} listen-port ${this.port} private-key /dev/stdin`
    execFileSync("ip", ["netns", "exec", this.#namespace, "sh", "-c", set], { input: privateKey })
    this.run("ip", "addr", "add", `${this.address}/24`, "dev", this.#interface)
    this.run("ip", "link", "set", this.#interface, "up", "mtu", "1280")
  }
}
