// C interface over the Verilated accelerator: many clock cycles a call.
//
// One cycle is: with the clock low, drive the inputs, settle, sample every handshake; then the
// rising edge. So what is sampled is what a flip-flop behind the port would have taken, and inputs
// change only after the edge. AXI rules as in the AMBA AXI and AXI4-Stream specifications (ARM IHI
// 0022, IHI 0051): a valid that is raised is held until it is taken; only a cancelled packet (the
// reset of a DMA) takes it back.
//
// Every function may be called from one thread at a time a simulation. What the model reports by
// $error, $fatal or $stop ends the simulation: the call gives BROKEN and `bacmac_sim_message`.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "Vbacmac.h"
#include "verilated.h"
#ifdef BACMAC_TRACE
#include "verilated_fst_c.h"
#endif

namespace {

constexpr int BEAT_BYTES = BACMAC_IN;  // parameter IN of the build
constexpr int ANSWER_CYCLES = 10'000;  // AXI4-Lite: later than this is never
constexpr int RESET_CYCLES = 16;  // what aresetn needs
constexpr int NO_ANSWER = -1, BROKEN = -2;
constexpr int RESPONSE_OKAY = 0;

// splitmix64 (Steele, Lea, Flood 2014): the same on every machine.
struct Random {
    uint64_t state = 0;
    bool happens(double probability) {
        if (probability <= 0.0) return false;
        uint64_t z = (state += 0x9E3779B97F4A7C15ULL);
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
        z ^= z >> 31;
        return static_cast<double>(z >> 11) * 0x1.0p-53 < probability;
    }
};

// A port of up to 64 bits is a scalar, a wider one an array of 32-bit words; both little-endian,
// as the machines are that this runs on.
template <typename Port>
void put_bytes(Port& port, const uint8_t* bytes) {
    std::memcpy(&port, bytes, BEAT_BYTES);
}
template <typename Port>
void get_bytes(uint8_t* bytes, const Port& port) {
    std::memcpy(bytes, &port, BEAT_BYTES);
}

}  // namespace

extern "C" {

// What moved so far; the layout is that of host/device/rtl/simulator.py.
struct bacmac_sim_state {
    uint64_t cycle;            // rising edges since the simulation was made
    uint64_t beats;            // beats taken on either stream
    uint64_t input_end;        // cycle in which the last packet's last beat was taken
    uint64_t output_end;       // cycle in which TLAST was taken
    uint64_t output_bytes;     // of the output packet so far
    uint32_t input_active;     // a packet is offered and not taken whole
    uint32_t output_complete;  // the output packet that was asked for has ended
    uint64_t starved_since;    // first cycle of those without a break up to now in which the
                               // accelerator took input and none was there; or UINT64_MAX
    uint64_t blocked_since;    // the same of output that nobody takes
};

}  // extern "C"

namespace {

class Simulation {
  public:
    Simulation() : top_(std::make_unique<Vbacmac>(&context_)) {
        state_.starved_since = state_.blocked_since = UINT64_MAX;
        top_->aresetn = 0;
        for (int i = 0; i < RESET_CYCLES; ++i) step();
        top_->aresetn = 1;
        step();
    }
    ~Simulation() {
        stop_trace();
        top_->final();
    }

    int write(uint32_t address, uint32_t value) {
        top_->s_axi_awaddr = address;
        top_->s_axi_wdata = value;
        top_->s_axi_wstrb = 0xF;
        top_->s_axi_awvalid = top_->s_axi_wvalid = top_->s_axi_bready = 1;
        int response = NO_ANSWER;
        for (int i = 0; i < ANSWER_CYCLES && response == NO_ANSWER; ++i) {
            step();
            if (awready_) top_->s_axi_awvalid = 0;
            if (wready_) top_->s_axi_wvalid = 0;
            if (bvalid_) response = response_;
        }
        top_->s_axi_awvalid = top_->s_axi_wvalid = top_->s_axi_bready = 0;
        return response;
    }

    int read(uint32_t address, uint32_t* value) {
        top_->s_axi_araddr = address;
        top_->s_axi_arvalid = top_->s_axi_rready = 1;
        int response = NO_ANSWER;
        for (int i = 0; i < ANSWER_CYCLES && response == NO_ANSWER; ++i) {
            step();
            if (arready_) top_->s_axi_arvalid = 0;
            if (rvalid_) {
                response = response_;
                *value = rdata_;
            }
        }
        top_->s_axi_arvalid = top_->s_axi_rready = 0;
        return response;
    }

    void offer(const uint8_t* bytes, uint64_t n_bytes, double idle, uint64_t seed) {
        input_.assign(bytes, bytes + n_bytes);
        position_ = 0;
        state_.input_active = n_bytes != 0;
        state_.input_end = state_.cycle;
        idle_ = idle;
        idle_random_.state = seed;
    }

    void cancel() {
        input_.clear();
        state_.input_active = receiving_ = state_.output_complete = 0;
        top_->s_axis_tvalid = top_->m_axis_tready = 0;
        offered_ = false;
    }

    void receive(uint8_t* bytes, uint64_t n_bytes, double stall, uint64_t seed) {
        output_ = bytes;
        capacity_ = n_bytes;
        state_.output_bytes = 0;
        state_.output_complete = 0;
        receiving_ = true;
        stall_ = stall;
        stall_random_.state = seed;
    }

    // Until n cycles have passed, or (where it was under way) a packet has ended.
    uint64_t run(uint64_t n) {
        const bool input = state_.input_active, output = receiving_;
        uint64_t done = 0;
        while (done < n) {
            step();
            ++done;
            if ((input && !state_.input_active) || (output && !receiving_)) break;
        }
        return done;
    }

    const bacmac_sim_state& state() const { return state_; }

    // Record cycles first to last; false where this build cannot.
    bool trace(const char* file, uint64_t first, uint64_t last) {
#ifdef BACMAC_TRACE
        stop_trace();
        trace_file_ = file;
        trace_first_ = first;
        trace_last_ = last;
        return true;
#else
        (void)file, (void)first, (void)last;
        return false;
#endif
    }

    void stop_trace() {
#ifdef BACMAC_TRACE
        trace_last_ = 0;
        if (!recording_) return;
        recording_->close();
        recording_.reset();
#endif
    }

    std::string message;

  private:
    void step() {
        if (!offered_) {
            top_->s_axis_tvalid = 0;
            if (state_.input_active && !idle_random_.happens(idle_)) offer_beat();
        }
        top_->m_axis_tready = receiving_ && !stall_random_.happens(stall_);
        top_->aclk = 0;
        top_->eval();
        dump(0);
        sample();
        top_->aclk = 1;
        top_->eval();
        dump(1);
        ++state_.cycle;
    }

    void offer_beat() {
        uint8_t beat[BEAT_BYTES] = {};
        const uint64_t left = input_.size() - position_;
        const uint64_t n_bytes = std::min<uint64_t>(left, BEAT_BYTES);
        std::memcpy(beat, input_.data() + position_, n_bytes);
        put_bytes(top_->s_axis_tdata, beat);
        top_->s_axis_tkeep = n_bytes == 64 ? ~0ULL : (1ULL << n_bytes) - 1;
        top_->s_axis_tlast = left <= BEAT_BYTES;
        top_->s_axis_tvalid = 1;
        offered_ = true;
    }

    void sample() {
        awready_ = top_->s_axi_awready;
        wready_ = top_->s_axi_wready;
        bvalid_ = top_->s_axi_bvalid;
        arready_ = top_->s_axi_arready;
        rvalid_ = top_->s_axi_rvalid;
        if (bvalid_) response_ = top_->s_axi_bresp;
        if (rvalid_) {
            response_ = top_->s_axi_rresp;
            rdata_ = top_->s_axi_rdata;
        }
        const bool ready = top_->s_axis_tready;
        since(state_.starved_since, ready && !state_.input_active);
        since(state_.blocked_since, top_->m_axis_tvalid && !receiving_);
        if (offered_ && ready) take_input();
        if (top_->m_axis_tvalid && top_->m_axis_tready) take_output();
    }

    void since(uint64_t& first, bool holds) {
        first = holds ? std::min(first, state_.cycle) : UINT64_MAX;
    }

    void take_input() {
        ++state_.beats;
        offered_ = false;
        position_ += BEAT_BYTES;
        if (position_ < input_.size()) return;
        state_.input_active = 0;
        state_.input_end = state_.cycle;
    }

    void take_output() {
        ++state_.beats;
        if (state_.output_bytes + BEAT_BYTES <= capacity_)
            get_bytes(output_ + state_.output_bytes, top_->m_axis_tdata);
        state_.output_bytes += BEAT_BYTES;
        if (!top_->m_axis_tlast) return;
        receiving_ = false;
        state_.output_complete = 1;
        state_.output_end = state_.cycle;
    }

    void dump(int half) {
#ifdef BACMAC_TRACE
        if (state_.cycle < trace_first_ || state_.cycle >= trace_last_) {
            if (recording_ && state_.cycle >= trace_last_) stop_trace();
            return;
        }
        if (!recording_) {
            context_.traceEverOn(true);
            recording_ = std::make_unique<VerilatedFstC>();
            top_->trace(recording_.get(), 99);
            recording_->open(trace_file_.c_str());
            if (!recording_->isOpen()) throw std::runtime_error("cannot write " + trace_file_);
        }
        recording_->dump(2 * state_.cycle + half);
#else
        (void)half;
#endif
    }

    VerilatedContext context_;
    std::unique_ptr<Vbacmac> top_;
    bacmac_sim_state state_{};

    bool awready_ = false, wready_ = false, bvalid_ = false, arready_ = false, rvalid_ = false;
    int response_ = RESPONSE_OKAY;
    uint32_t rdata_ = 0;

    std::vector<uint8_t> input_;
    uint64_t position_ = 0;
    bool offered_ = false;
    double idle_ = 0.0, stall_ = 0.0;
    Random idle_random_, stall_random_;

    uint8_t* output_ = nullptr;
    uint64_t capacity_ = 0;
    bool receiving_ = false;

#ifdef BACMAC_TRACE
    std::unique_ptr<VerilatedFstC> recording_;
    std::string trace_file_;
    uint64_t trace_first_ = 0, trace_last_ = 0;
#endif
};

}  // namespace

// Where Verilator's own would end the process.
void vl_stop(const char* file, int line, const char* scope) VL_MT_UNSAFE {
    throw std::runtime_error(std::string(file) + ":" + std::to_string(line) + ": " + scope +
                             ": stopped");
}
void vl_fatal(const char* file, int line, const char* scope, const char* text) VL_MT_UNSAFE {
    throw std::runtime_error(std::string(file) + ":" + std::to_string(line) + ": " + scope + ": " +
                             text);
}

namespace {

// After an error the model's state is anyone's guess, so every later call fails too.
template <typename Call>
int64_t guarded(Simulation* simulation, Call call) {
    if (!simulation->message.empty()) return BROKEN;
    try {
        return static_cast<int64_t>(call());
    } catch (const std::exception& error) {
        simulation->message = *error.what() ? error.what() : "unknown error";
        return BROKEN;
    }
}

}  // namespace

extern "C" {

Simulation* bacmac_sim_create() {
    try {
        return new Simulation();
    } catch (const std::exception&) {
        return nullptr;
    }
}

void bacmac_sim_destroy(Simulation* simulation) { delete simulation; }

const char* bacmac_sim_message(const Simulation* simulation) { return simulation->message.c_str(); }

const bacmac_sim_state* bacmac_sim_look(const Simulation* simulation) {
    return &simulation->state();
}

// The AXI response (0 OKAY, 2 SLVERR, 3 DECERR), NO_ANSWER or BROKEN.
int64_t bacmac_sim_write(Simulation* simulation, uint32_t address, uint32_t value) {
    return guarded(simulation, [&] { return simulation->write(address, value); });
}
int64_t bacmac_sim_read(Simulation* simulation, uint32_t address, uint32_t* value) {
    return guarded(simulation, [&] { return simulation->read(address, value); });
}

// Offer a packet (copied); before each beat the stream is idle with this probability a cycle.
int64_t bacmac_sim_offer(Simulation* simulation, const uint8_t* bytes, uint64_t n_bytes,
                         double idle, uint64_t seed) {
    return guarded(simulation, [&] { return simulation->offer(bytes, n_bytes, idle, seed), 0; });
}

// Take the next output packet into memory that stays the caller's; bytes beyond n_bytes are counted
// and lost. In each cycle the receiver is not ready with this probability.
int64_t bacmac_sim_receive(Simulation* simulation, uint8_t* bytes, uint64_t n_bytes, double stall,
                           uint64_t seed) {
    return guarded(simulation, [&] { return simulation->receive(bytes, n_bytes, stall, seed), 0; });
}

// Forget both packets.
int64_t bacmac_sim_cancel(Simulation* simulation) {
    return guarded(simulation, [&] { return simulation->cancel(), 0; });
}

// Cycles that passed: n, or fewer where a packet ended; or BROKEN.
int64_t bacmac_sim_run(Simulation* simulation, uint64_t n) {
    return guarded(simulation, [&] { return simulation->run(n); });
}

// Record cycles first to last - 1 into an FST file; 0 where the build cannot.
int64_t bacmac_sim_trace(Simulation* simulation, const char* file, uint64_t first, uint64_t last) {
    return guarded(simulation, [&] { return simulation->trace(file, first, last); });
}

}  // extern "C"
