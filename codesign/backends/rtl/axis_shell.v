`timescale 1 ns / 1 ps

// AXI-Stream around a core that has neither ready nor enable and never stops; BEATS inputs make one result.
//
// The first beat of a sample is taken only while a place for the result is free in the FIFO behind the core: `free`
// counts the places that nothing in flight or waiting has claimed. So no result is ever lost, whatever the consumer
// does, and with more places than results in flight the shell takes a beat in every cycle. A result that meets an empty
// FIFO is given in the same cycle.
module axis_shell #(
    parameter WIDTH = 8,   // bits of a result
    parameter BEATS = 1,   // beats of a sample
    parameter ADDRESS = 1  // the FIFO has 2^ADDRESS places
) (
    input aclk,
    input aresetn,
    input s_axis_tvalid,
    output s_axis_tready,
    output take,           // a beat enters the core
    input arrive,          // a result leaves the core
    input [WIDTH-1:0] result,
    output [WIDTH-1:0] m_axis_tdata,
    output m_axis_tvalid,
    input m_axis_tready
);
    localparam DEPTH = 1 << ADDRESS;

    reg [ADDRESS:0] free, waiting;
    reg [ADDRESS-1:0] head, tail;
    reg [WIDTH-1:0] fifo [0:DEPTH-1];

    wire is_first, is_last;
    wire is_empty = waiting == 0;
    wire give = m_axis_tvalid && m_axis_tready;
    wire push = arrive && !(is_empty && m_axis_tready);
    wire pop = give && !is_empty;

    assign take = s_axis_tvalid && s_axis_tready;
    assign s_axis_tready = aresetn && (free != 0 || !is_first);
    assign m_axis_tvalid = aresetn && (arrive || !is_empty);
    assign m_axis_tdata = is_empty ? result : fifo[head];

    beat_counter #(.BEATS(BEATS)) beat (
        .clk(aclk), .resetn(aresetn), .valid(take), .is_first(is_first), .is_last(is_last)
    );

    always @(posedge aclk) begin
        if (push) fifo[tail] <= result;
        if (!aresetn) begin
            free <= DEPTH;
            waiting <= 0;
            head <= 0;
            tail <= 0;
        end else begin
            free <= free - (take && is_first) + give;
            waiting <= waiting + push - pop;
            head <= head + pop;
            tail <= tail + push;
        end
    end
endmodule
