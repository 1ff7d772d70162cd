`timescale 1 ns / 1 ps

// Follows what a pipeline of LATENCY registers holds: which of its results are results of an input.
module valid_delay #(
    parameter LATENCY = 1
) (
    input clk,
    input resetn,
    input valid_in,
    output valid_out
);
    reg [LATENCY-1:0] in_flight;
    assign valid_out = in_flight[LATENCY-1];
    always @(posedge clk) begin
        if (!resetn) in_flight <= 0;
        else in_flight <= LATENCY == 1 ? valid_in : {in_flight, valid_in};
    end
endmodule
