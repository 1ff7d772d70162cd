`timescale 1 ns / 1 ps

// Tells the first and the last of BEATS beats that belong together.
module beat_counter #(
    parameter BEATS = 1
) (
    input clk,
    input resetn,
    input valid,
    output is_first,
    output is_last
);
    generate
        if (BEATS == 1) begin : single
            assign is_first = 1'b1;
            assign is_last = 1'b1;
        end else begin : several
            reg [$clog2(BEATS)-1:0] beat;
            assign is_first = beat == 0;
            assign is_last = beat == BEATS - 1;
            always @(posedge clk) begin
                if (!resetn) beat <= 0;
                else if (valid) beat <= is_last ? 0 : beat + 1'b1;
            end
        end
    endgenerate
endmodule
