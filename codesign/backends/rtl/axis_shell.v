`timescale 1 ns / 1 ps

// AXI-Stream around a pipeline that has neither valid nor enable and never stops.
//
// An input is taken only while a place for its result is free in the FIFO behind the pipeline: `free` counts the places
// that nothing in flight or waiting has claimed. So no result is ever lost, whatever the consumer does, and with
// DEPTH > LATENCY the shell takes an input and gives a result in every cycle. A result that meets an empty FIFO is
// given in the same cycle.
module axis_shell #(
    parameter WIDTH = 8,    // bits of a result
    parameter LATENCY = 1,  // clock edges from s_axis_tdata to result
    parameter ADDRESS = $clog2(LATENCY + 2)
) (
    input aclk,
    input aresetn,
    input s_axis_tvalid,
    output s_axis_tready,
    input [WIDTH-1:0] result,
    output [WIDTH-1:0] m_axis_tdata,
    output m_axis_tvalid,
    input m_axis_tready
);
    localparam DEPTH = 1 << ADDRESS;

    reg [LATENCY-1:0] in_flight;
    reg [ADDRESS:0] free, waiting;
    reg [ADDRESS-1:0] head, tail;
    reg [WIDTH-1:0] fifo [0:DEPTH-1];

    wire is_empty = waiting == 0;
    wire take = s_axis_tvalid && s_axis_tready;
    wire give = m_axis_tvalid && m_axis_tready;
    wire arrive = in_flight[LATENCY-1];
    wire push = arrive && !(is_empty && m_axis_tready);
    wire pop = give && !is_empty;

    assign s_axis_tready = aresetn && free != 0;
    assign m_axis_tvalid = aresetn && (arrive || !is_empty);
    assign m_axis_tdata = is_empty ? result : fifo[head];

    always @(posedge aclk) begin
        if (push) fifo[tail] <= result;
        if (!aresetn) begin
            in_flight <= 0;
            free <= DEPTH;
            waiting <= 0;
            head <= 0;
            tail <= 0;
        end else begin
            in_flight <= LATENCY == 1 ? take : {in_flight, take};
            free <= free - take + give;
            waiting <= waiting + push - pop;
            head <= head + pop;
            tail <= tail + push;
        end
    end
endmodule
